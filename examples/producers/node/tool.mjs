#!/usr/bin/env node
// A tool of FinanceGPT Pro. Pages call it with `execute_tool`, and MCP clients with `tools/call`.
//
//   node tool.mjs                                    answers until Ctrl-C
//   node tool.mjs --nats nats://127.0.0.1:4222

import { parseArgs } from 'node:util';
import { connect, headers } from '@nats-io/transport-node';

const SERVICES = {
  // The list of tools; MCP's `tools/list`.
  'mcp.tools': () => ({
    tools: [
      {
        name: 'currency_converter',
        description: 'Converts an amount from one currency into another',
        inputSchema: {
          type: 'object',
          properties: { amount: { type: 'number' }, from: { type: 'string' }, to: { type: 'string' } },
          required: ['amount', 'from', 'to'],
        },
      },
    ],
  }),
  // The last token of the subject is the user. Only Tidegate writes it.
  'tools.currency_converter.*': ({ amount, from, to }, [, , user]) => {
    const rates = { USD: 1, EUR: 0.9, INR: 84 };
    if (!rates[from] || !rates[to]) throw new Error(`no rate from ${from} to ${to}`);
    const text = `${user}: ${amount} ${from} are ${((amount / rates[from]) * rates[to]).toFixed(2)} ${to}`;
    return { content: [{ type: 'text', text }], isError: false };
  },
};

const { values } = parseArgs({ options: { nats: { type: 'string', default: 'nats://127.0.0.1:4222' } } });
const nc = await connect({ servers: values.nats, name: 'currency tool' });
process.once('SIGINT', () => nc.drain());
await Promise.all(Object.entries(SERVICES).map(([subject, answer]) => serve(subject, answer)));

async function serve(subject, answer) {
  // With a queue group, several instances of this program share the requests.
  const requests = nc.subscribe(subject, { queue: 'currency-tool' });
  console.log(`answering ${subject}`);
  for await (const request of requests) {
    try {
      request.respond(JSON.stringify(answer(request.json() ?? {}, request.subject.split('.'))));
    } catch (error) {
      // Tells Tidegate that this is an error; NATS' own service libraries do the same.
      const failed = headers();
      failed.set('Nats-Service-Error', error.message);
      failed.set('Nats-Service-Error-Code', '500');
      request.respond('', { headers: failed });
    }
  }
}
