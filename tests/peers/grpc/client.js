// A proxyless gRPC client (grpc-js). Usage: client.js TARGET. Input and output as client.py has them.

const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');

require('@grpc/grpc-js-xds').register();

const AT_ONCE = 16;
const DEADLINE_MS = 20_000;

const bytes = (value) => value;
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());

function call(values) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(values)) metadata.set(name, value);
  const options = { deadline: Date.now() + DEADLINE_MS };
  return new Promise((done) => {
    client.makeUnaryRequest('/weft.test.Echo/Call', bytes, bytes, Buffer.alloc(0), metadata, options, (error, answer) =>
      done(error ? { failed: `${grpc.status[error.code]}: ${error.details}` } : { answered: answer.toString() }));
  });
}

async function run({ calls, metadata }) {
  const tally = { answered: {}, failed: {} };
  let left = calls;
  const one = async () => {
    while (left-- > 0) {
      for (const [outcome, word] of Object.entries(await call(metadata))) {
        tally[outcome][word] = (tally[outcome][word] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return tally;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await run(JSON.parse(line))));
  }
  client.close();
}

main();
