// Sign a file as a program with the stock sigstore-js does:
//   node sign.mjs FULCIO_URL REKOR_URL TOKEN_FILE ARTIFACT BUNDLE_OUT
import { readFileSync, writeFileSync } from "node:fs";
import { bundleToJSON } from "@sigstore/bundle";
import { FulcioSigner, MessageSignatureBundleBuilder, RekorWitness } from "@sigstore/sign";

const [fulcioBaseURL, rekorBaseURL, tokenFile, artifact, out] = process.argv.slice(2);
const token = readFileSync(tokenFile, "utf8").trim();

const signer = new FulcioSigner({ fulcioBaseURL, identityProvider: { getToken: async () => token } });
const witness = new RekorWitness({ rekorBaseURL });
const bundler = new MessageSignatureBundleBuilder({ signer, witnesses: [witness] });
const bundle = await bundler.create({ data: readFileSync(artifact) });
writeFileSync(out, JSON.stringify(bundleToJSON(bundle)));
