// FinanceGPT Pro's second listener (document 000, port 9001) and the clients of MCP's own SDKs: the first one over both
// transports, and its successor, which knows the revision without `initialize`, over HTTP.

import { Client as Client2, StreamableHTTPClientTransport as HttpTransport2 } from '@modelcontextprotocol/client';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

// The SDK uses the browser's WebSocket, which Node.js 20 does not have.
globalThis.WebSocket ??= WebSocket;

const TOOLS = { tools: [{ name: 'loan_calculator', inputSchema: { type: 'object' } }] };
const CONTENT = { content: [{ type: 'text', text: '8792' }], isError: false };

/** Lists the tools, calls one, and gets errors for unknown tools. */
async function tries(client, { tag, ask }, user) {
  assert.deepEqual(client.getServerVersion(), { name: 'financegpt-mcp', version: '1.0.0' });
  assert.deepEqual(client.getServerCapabilities(), { logging: {}, tools: { listChanged: true } });
  const tool = `loan_calculator-${tag}`;
  const services = [
    await ask('serve', 'mcp.tools', { reply: TOOLS }),
    await ask('serve', `tools.${tool}.${user}`, { reply: CONTENT }),
    await ask('serve', `tools.broken-${tag}.${user}`, { fails: 'out of order' }),
  ];
  try {
    assert.deepEqual(await client.listTools(), TOOLS);
    assert.deepEqual(await client.callTool({ name: tool, arguments: { amount: 100000 } }), CONTENT);
    assert.deepEqual(await client.ping(), {});
    assert.deepEqual(await client.setLoggingLevel('warning'), {});
    await assert.rejects(client.callTool({ name: `nothing-${tag}` }), { code: -32602 });
    await assert.rejects(client.callTool({ name: `broken-${tag}` }), { code: -32603, message: /out of order/ });
    await assert.rejects(client.request({ method: 'resources/list' }, { parse: (it) => it }), { code: -32601 });
  } finally {
    for (const id of services) {
      const asked = await ask('served', id);
      if (asked.some(([subject]) => subject.includes(tool)))
        assert.deepEqual(asked, [[`tools.${tool}.${user}`, { amount: 100000 }]]);
    }
  }
}

/** Runs a client over a transport. Resolves to `{ wrong }` or `{}`. */
async function withClient(transport, use, client = new Client({ name: 'frontend test', version: '1.0.0' })) {
  try {
    await client.connect(transport);
    await use(client);
    return {};
  } catch (error) {
    return { wrong: `${error.name}: ${error.message}` };
  } finally {
    await client.close();
  }
}

/** A client of revision 2026-07-28 or earlier, over HTTP at a path. Resolves to `{ wrong }` or `{}`. */
const sinceJuly = (mode, path, revision) => async (stage) => {
  const user = `USR001-${stage.tag}`;
  const token = await stage.ask('token', { sub: user, role: 'user' });
  const requestInit = { headers: { authorization: `Bearer ${token}` } };
  const transport = new HttpTransport2(new URL(stage.url.replace(/^ws/, 'http') + path), { requestInit });
  const options = mode ? { versionNegotiation: { mode } } : {};
  const client = new Client2({ name: 'frontend test', version: '1.0.0' }, options);
  const tool = `loan_calculator-${stage.tag}`;
  const services = [
    await stage.ask('serve', 'mcp.tools', { reply: TOOLS }),
    await stage.ask('serve', `tools.${tool}.${user}`, { reply: CONTENT }),
  ];
  const use = async () => {
    assert.equal(client.getNegotiatedProtocolVersion(), revision);
    assert.deepEqual((await client.listTools()).tools, TOOLS.tools);
    const { content, isError } = await client.callTool({ name: tool, arguments: { amount: 100000 } });
    assert.deepEqual({ content, isError }, CONTENT);
    await assert.rejects(client.callTool({ name: `nothing-${stage.tag}` }), { code: -32602 });
  };
  try {
    return await withClient(transport, use, client);
  } finally {
    for (const id of services) await stage.ask('served', id);
  }
};

export const rows = {
  'second listener: the SDK over WebSocket': async (stage) => {
    const user = `USR001-${stage.tag}`;
    const token = await stage.ask('token', { sub: user, role: 'user' });
    return withClient(new WebSocketClientTransport(new URL(`${stage.url}/?token=${token}`)), async (client) => {
      let heard = 0;
      client.setNotificationHandler(ToolListChangedNotificationSchema, () => void (heard += 1));
      await tries(client, stage, user);
      const deadline = performance.now() + 10_000;
      while (!heard) {
        if (performance.now() > deadline) throw new Error('notifications/tools/list_changed does not arrive');
        await stage.ask('publish', 'mcp.notify.tools.list_changed', {});
        await sleep(50);
      }
    });
  },

  'second listener: the SDK over HTTP': async (stage) => {
    const user = `USR001-${stage.tag}`;
    const token = await stage.ask('token', { sub: user, role: 'user' });
    const requestInit = { headers: { authorization: `Bearer ${token}` } };
    const url = new URL(`${stage.url.replace(/^ws/, 'http')}/mcp`);
    return withClient(new StreamableHTTPClientTransport(url, { requestInit }), (client) => tries(client, stage, user));
  },

  'second listener: the second SDK over HTTP': sinceJuly(undefined, '/mcp', '2025-11-25'),
  'second listener: the second SDK, which asks for the revisions': sinceJuly('auto', '/mcp', '2026-07-28'),
  'second listener: the second SDK, with the revision 2026-07-28': sinceJuly({ pin: '2026-07-28' }, '/mcp', '2026-07-28'),
  'second listener: the second SDK at the address of the document': sinceJuly('auto', '/', '2026-07-28'),

  'second listener: a client without a token is rejected': async (stage) => {
    const url = new URL(`${stage.url.replace(/^ws/, 'http')}/mcp`);
    const { wrong: refused } = await withClient(new StreamableHTTPClientTransport(url), () => {});
    const status = await stage.ask('handshake', '/');
    const right = refused && status === 401;
    return right ? {} : { wrong: `HTTP: ${refused ?? 'not refused'}; WebSocket: ${status}, not 401` };
  },
};
