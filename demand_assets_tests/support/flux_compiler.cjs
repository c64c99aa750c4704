// Flux queries as a JSON list on stdin; on stdout, of each, the list of its errors.
// The argument is the folder of the npm package @influxdata/flux-lsp-node.

const { readFileSync } = require("node:fs");
const { Lsp } = require(process.argv[2]);

console.log = console.info = console.debug = console.error; // the language server's own log

async function main() {
  const ERROR = 1; // of the protocol's severities; what defines `v` itself gets a warning
  const queries = JSON.parse(readFileSync(0, "utf8"));
  // Documents of one folder are one package, in which each name is defined once.
  const uris = queries.map((_, i) => `file:///${i}/query.flux`);
  const verdicts = new Map();

  const server = new Lsp();
  server.onMessage((text) => {
    const { method, params } = JSON.parse(text);
    if (method === "textDocument/publishDiagnostics") {
      const errors = params.diagnostics.filter(({ severity }) => severity === ERROR);
      verdicts.set(params.uri, errors.map(({ message }) => message));
    }
  });
  server.run(); // for as long as the process lives
  const send = (message) => server.send(JSON.stringify({ jsonrpc: "2.0", ...message }));

  await send({ id: 1, method: "initialize", params: { capabilities: {} } });
  await send({ method: "initialized", params: {} });
  for (const [i, uri] of uris.entries()) {
    const textDocument = { uri, languageId: "flux", version: 1, text: queries[i] };
    await send({ method: "textDocument/didOpen", params: { textDocument } });
  }
  const silent = uris.filter((uri) => !verdicts.has(uri));
  if (silent.length) {
    throw new Error(`no verdict on ${silent}`);
  }
  process.stdout.write(JSON.stringify(uris.map((uri) => verdicts.get(uri))));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
