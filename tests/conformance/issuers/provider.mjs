// oidc-provider as a full OpenID Provider: public clients, `sigstore` and `ca-service-admin`, by authorization
// code and PKCE.
//
//   node provider.mjs PORT
//
// Prints {"url": …} once it listens on 127.0.0.1, and ends when its standard input does. Its interactions ask
// nobody: who is named by login_hint is logged in and consents.
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import process from 'node:process';

import { Provider } from 'oidc-provider';

const server = http.createServer();
await new Promise((listening) => server.listen(Number(process.argv[2]), '127.0.0.1', listening));
const url = `http://127.0.0.1:${server.address().port}`;

function signingKey(kid) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
}

const provider = new Provider(url, {
  clients: ['sigstore', 'ca-service-admin'].map((client_id) => ({
    client_id,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code'],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/auth/callback'],
  })),
  jwks: { keys: [signingKey('provider-1'), signingKey('provider-2')] },
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true },
  // Sigstore's clients read the address in the ID token itself.
  conformIdTokenClaims: false,
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: `account-of-${id}`, email: id, email_verified: !id.startsWith('unverified') }),
  }),
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
});

async function approve(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    await provider.interactionFinished(request, response, { login: { accountId: params.login_hint } });
    return;
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  await provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
server.on('request', (request, response) => {
  if (!request.url.startsWith('/interaction/')) {
    answer(request, response);
    return;
  }
  approve(request, response).catch((problem) => {
    console.error(problem);
    response.statusCode = 500;
    response.end();
  });
});
console.log(JSON.stringify({ url }));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
