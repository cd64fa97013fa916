import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.CRL;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The JDK's own PKIX validator, on many cases in one process.
 *
 * <p>Each line of standard input is a case: folder, moment, and either "ask" with a responder's URL, "ocsp"
 * with a response, or "crl" with lists, all separated by tabs. The folder holds leaf.pem, issuing.pem and
 * root.pem. The answer is a line: "good", or the reason for which the path was refused and the JDK's sentence.
 */
public final class Judge {
    private static final CertificateFactory FACTORY = factory();

    public static void main(String[] arguments) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split("\t");
            System.out.println(judge(Path.of(words[0]), Instant.parse(words[1]), words));
        }
    }

    private static String judge(Path folder, Instant moment, String[] words) throws Exception {
        X509Certificate leaf = read(folder.resolve("leaf.pem"));
        var path = FACTORY.generateCertPath(List.of(leaf, read(folder.resolve("issuing.pem"))));
        var validator = CertPathValidator.getInstance("PKIX");
        var checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        var parameters = new PKIXParameters(Set.of(new TrustAnchor(read(folder.resolve("root.pem")), null)));
        parameters.setDate(Date.from(moment));
        if (words[2].equals("ask")) {
            checker.setOptions(EnumSet.of(Option.ONLY_END_ENTITY, Option.NO_FALLBACK));
            checker.setOcspResponder(URI.create(words[3]));
        } else if (words[2].equals("ocsp")) {
            checker.setOptions(EnumSet.of(Option.ONLY_END_ENTITY, Option.NO_FALLBACK));
            checker.setOcspResponses(Map.of(leaf, Files.readAllBytes(folder.resolve(words[3]))));
        } else {
            checker.setOptions(EnumSet.of(Option.PREFER_CRLS, Option.NO_FALLBACK));
            List<CRL> lists = new ArrayList<>();
            for (int place = 3; place < words.length; place++) {
                try (InputStream in = Files.newInputStream(folder.resolve(words[place]))) {
                    lists.add(FACTORY.generateCRL(in));
                }
            }
            parameters.addCertStore(
                    CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
        }
        parameters.addCertPathChecker(checker);
        try {
            validator.validate(path, parameters);
            return "good";
        } catch (CertPathValidatorException refused) {
            return refused.getReason() + "\t" + String.valueOf(refused.getMessage()).replaceAll("\\s+", " ");
        }
    }

    private static X509Certificate read(Path file) throws Exception {
        try (InputStream in = Files.newInputStream(file)) {
            return (X509Certificate) FACTORY.generateCertificate(in);
        }
    }

    private static CertificateFactory factory() {
        try {
            return CertificateFactory.getInstance("X.509");
        } catch (java.security.cert.CertificateException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
