// oauth2-mock-server as issuers that sign whatever claims a test sends.
//
//   node mock.mjs PORT [KEY.pem CERTIFICATE.pem]
//
// Prints {"url": …} once it listens on 127.0.0.1, and ends when its standard input does. Each issuer is a path
// of one segment below that, made by POST /NAME/control/rotate {alg, kid}, which publishes one more key. Beside
// the library's own endpoints: POST /NAME/control/sign {claims, header, kid} gives {"token"}; GET /asked gives
// the paths that others asked for so far.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import process from 'node:process';

import { OAuth2Issuer, OAuth2Service } from 'oauth2-mock-server';

const [port, key, certificate] = process.argv.slice(2);
const issuers = new Map();
const asked = [];
let url;

function reply(response, document) {
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(document));
}

function makeIssuer(name) {
  const issuer = new OAuth2Issuer();
  issuer.url = `${url}/${name}`;
  const service = new OAuth2Service(issuer);
  service.addRoute('POST', '/control/sign', async (request, response) => {
    const { claims, header, kid } = request.body;
    // The payload is replaced as a whole: a claim that the test leaves out must be absent.
    const scopesOrTransform = (head, payload) => {
      for (const member of Object.keys(payload)) delete payload[member];
      Object.assign(payload, claims);
      Object.assign(head, header);
    };
    reply(response, { token: await issuer.buildToken({ kid, scopesOrTransform }) });
  });
  service.addRoute('POST', '/control/rotate', async (request, response) => {
    const { alg, kid } = request.body;
    await issuer.keys.generate(alg, { kid });
    reply(response, { kid });
  });
  issuers.set(name, service);
  return service;
}

function answer(request, response) {
  if (request.url === '/asked') {
    reply(response, { asked });
    return;
  }
  const [, name, rest] = /^\/([^/]*)(\/.*)$/.exec(request.url) ?? [];
  const control = rest?.startsWith('/control/');
  if (!control) asked.push(request.url);
  const service = issuers.get(name) ?? (control ? makeIssuer(name) : undefined);
  if (service === undefined) {
    response.statusCode = 404;
    response.end();
    return;
  }
  request.url = rest;
  service.requestHandler(request, response);
}

const server = key
  ? https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, answer)
  : http.createServer(answer);
server.listen(Number(port), '127.0.0.1', () => {
  url = `${key ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ url }));
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
