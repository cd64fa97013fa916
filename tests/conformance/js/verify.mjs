// Verify a bundle against a trusted_root.json with the stock @sigstore/verify:
//   node verify.mjs TRUSTED_ROOT BUNDLE ARTIFACT IDENTITY ISSUER
// Prints the identity it found; exit status 1 with the reason when the bundle does not hold.
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";

const [trustedRoot, bundleFile, artifact, subjectAlternativeName, issuer] = process.argv.slice(2);
const json = (file) => JSON.parse(readFileSync(file, "utf8"));

try {
  const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(json(trustedRoot))));
  const entity = toSignedEntity(bundleFromJSON(json(bundleFile)), readFileSync(artifact));
  const signer = verifier.verify(entity, { subjectAlternativeName, extensions: { issuer } });
  console.log(signer.identity.subjectAlternativeName);
} catch (error) {
  console.error(`${error.code ?? error.name}: ${error.message}`);
  process.exit(1);
}
