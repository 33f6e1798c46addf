// The frontends of the five systems, as their documents describe them: the sockets that a page opens, the messages that
// it sends on open (`first`) and on a button, and its HTTP calls. `shows` is the message that a button leads to, and
// `ends` the one that it stops. `answers` has the page's reply to a type of message. Names in braces are parameters of
// the page's address.

/** Seconds until the next attempt, or `undefined` after the last one. */
const within = (attempts, seconds) => (attempt) => (attempt < attempts ? seconds(attempt) : undefined);

const sentioSocket = (name, what, shows, members = {}, credential = { user_id: 'user_001', token: '{token}' }) => {
  const subscribe = { action: 'subscribe', ...members, ...credential };
  const ends = shows;
  return {
    name,
    path: `/ws/${name}`,
    first: [subscribe],
    buttons: [
      { label: 'ping', send: { action: 'ping' }, shows: 'pong' },
      { label: `unsubscribe ${what}`, send: { action: 'unsubscribe', ...members }, ends },
      { label: `subscribe ${what}`, send: subscribe, shows },
    ],
  };
};

const channel = (name, shows, symbols) => [
  { label: `subscribe ${name}`, send: { type: 'subscribe', channel: name, ...symbols }, shows },
  { label: `unsubscribe ${name}`, send: { type: 'unsubscribe', channel: name }, ends: shows },
];

/** A message that sets up a call. Only the offer and the answer are sent; there is no real call. */
const signal = (to, type) => ({ type: 'webrtc', to, data: { type, sdp: 'v=0' } });

const PONG = { label: 'pong', send: { type: 'pong' } };
const symbol = (name) => ({ type: 'subscribe', symbol: name });

/** A JSON-RPC request. Its response has the same id. MCP and FinanceGPT Pro's own protocol differ in the methods. */
const rpc = (id, method, params = {}) => ({
  label: method,
  send: { jsonrpc: '2.0', id, method, params },
  shows: `answer ${id}`,
});
const INITIALIZE = rpc(1, 'initialize', {
  protocolVersion: '2025-06-18',
  capabilities: {},
  clientInfo: { name: 'demo', version: '1' },
});
const INITIALIZED = {
  label: 'notifications/initialized',
  send: { jsonrpc: '2.0', method: 'notifications/initialized' },
  shows: 'notifications/tools/list_changed',
};

const sentio = {
  title: 'Sentio',
  about: 'One socket per stream; the first message has the token of the user or the admin.',
  reconnect: within(5, (attempt) => attempt * 3),
  ping: { action: 'ping' },
  sockets: [
    sentioSocket('trade-signals', 'AAPL, GOOGL', 'trade_signals AAPL', { symbols: ['AAPL', 'GOOGL'] }),
    sentioSocket('earnings', 'earnings', 'earnings'),
    sentioSocket('notifications', 'notifications', 'notification'),
    sentioSocket('admin', 'admin', 'admin_users', {}, { admin_token: '{admin}' }),
    sentioSocket('market-data', 'AAPL', 'market_data', { symbols: ['AAPL'] }),
  ],
  calls: [
    { method: 'GET', path: '/api/v1/dashboard/trade-signals?symbols=AAPL,GOOGL', as: 'token' },
    { method: 'GET', path: '/api/v1/dashboard/earnings?user_id=user_001', as: 'token' },
  ],
  // The snippet claims to be the user test_user.
  snippets: { memberToken: 'reader' },
};

const hoardrun = {
  title: 'hoardrun',
  about: 'Notifications, transactions and balances arrive without a subscription; market data after joining a room.',
  reconnect: () => 3,
  ping: { type: 'ping' },
  sockets: [
    {
      name: 'notifications',
      path: '/ws/notifications?token={token}',
      buttons: [
        { label: 'ping', send: { type: 'ping' }, shows: 'pong' },
        {
          label: 'subscribe_notifications',
          send: { type: 'subscribe_notifications', types: ['transaction', 'balance', 'security'] },
          shows: 'notification',
        },
        { label: 'join market_data', send: { type: 'join_room', room: 'market_data' }, shows: 'market_update AAPL' },
        { label: 'leave market_data', send: { type: 'leave_room', room: 'market_data' }, ends: 'market_update AAPL' },
        { label: 'join crypto', send: { type: 'join_room', room: 'crypto' }, shows: 'market_update BTC' },
      ],
    },
  ],
  calls: [
    { method: 'GET', path: '/ws/stats', as: 'token' },
    ...Object.entries({
      'notification?user_id=u1': { id: 'n0', type: 'security', title: 'from the page' },
      notification: { id: 'n1', type: 'system', title: 'from the page, for all' },
      'transaction?user_id=u1': { transaction_id: 't0', status: 'pending' },
      'balance?user_id=u1': { balance: 1 },
      'market?room=crypto': { symbol: 'BTC', price: 1 },
      announcement: { title: 'from the page' },
    }).map(([name, body]) => ({ method: 'POST', path: `/ws/broadcast/${name}`, as: 'backend', body })),
  ],
  snippets: { placeholder: 'your-jwt-token' },
};

const stockAgent = {
  title: 'Stock Agent',
  about: 'Pages are guests without a token, and receive nothing before they subscribe. Alice and Bob have tokens.',
  reconnect: within(10, (attempt) => Math.min(30, 2 * 2 ** attempt)),
  ping: { type: 'ping' },
  sockets: [
    {
      name: 'client',
      path: '/ws/demo-client',
      first: [{ type: 'subscribe', channel: 'prices', symbols: ['AAPL', 'MSFT'] }],
      buttons: [
        { label: 'ping', send: { type: 'ping' }, shows: 'pong' },
        ...channel('prices', 'price_update AAPL', { symbols: ['AAPL', 'MSFT'] }),
        { label: 'subscribe all prices', send: { type: 'subscribe', channel: 'prices' }, shows: 'price_update GOOGL' },
        ...['alerts', 'signals', 'portfolio', 'notifications'].flatMap((name) => {
          const shows = {
            alerts: 'alert_triggered AAPL',
            signals: 'trading_signal AAPL',
            portfolio: 'portfolio_update',
            notifications: 'notification',
          }[name];
          return channel(name, shows);
        }),
        { label: 'invalid_channel', send: { type: 'subscribe', channel: 'invalid_channel' }, shows: 'error' },
      ],
    },
    {
      name: 'alice',
      path: '/ws/alice',
      first: [{ type: 'subscribe', channel: 'webrtc', token: '{alice}' }],
      buttons: [{ label: 'offer to bob', send: signal('bob', 'offer'), shows: 'webrtc' }],
    },
    {
      name: 'bob',
      path: '/ws/bob',
      first: [{ type: 'subscribe', channel: 'webrtc', token: '{bob}' }],
      buttons: [],
      answers: { webrtc: signal('alice', 'answer') },
    },
  ],
  calls: [
    { method: 'GET', path: '/ws/stats' },
    { method: 'GET', path: '/health' },
  ],
};

const financegpt = {
  title: 'FinanceGPT Pro',
  about:
    'Events arrive without a subscription; services provide balances and tools. The other sockets use the own JSON-RPC ' +
    'of FinanceGPT Pro, and MCP, at one address.',
  reconnect: () => 3,
  sockets: [
    {
      name: 'user',
      path: '/ws/USR001?token={token}',
      buttons: [
        { label: 'ping', send: { type: 'ping' }, shows: 'pong' },
        { label: 'get_balance', send: { type: 'get_balance', account: 'savings' }, shows: 'balance' },
        { label: 'get_transactions', send: { type: 'get_transactions', limit: 3 }, shows: 'transactions' },
        {
          label: 'execute_tool',
          send: { type: 'execute_tool', tool: 'loan_calculator', params: { amount: 500000, months: 60 } },
          shows: 'tool',
        },
        {
          label: 'acknowledge_alert',
          send: { type: 'acknowledge_alert', alert_id: 'alert-1' },
          shows: 'acknowledged',
        },
        {
          label: 'unsubscribe goal_progress',
          send: { type: 'unsubscribe', events: ['goal_progress'] },
          ends: 'goal_progress',
        },
        {
          label: 'subscribe goal_progress',
          send: { type: 'subscribe', events: ['goal_progress'] },
          shows: 'goal_progress',
        },
        { label: 'subscribe INFY', send: { type: 'subscribe', symbols: ['INFY'] }, shows: 'MARKET_UPDATE INFY' },
        { label: 'unsubscribe INFY', send: { type: 'unsubscribe', symbols: ['INFY'] }, ends: 'MARKET_UPDATE INFY' },
      ],
    },
    {
      name: 'tools',
      at: 'mcp',
      path: '/?token={token}',
      buttons: [
        rpc(1, 'system.ping'),
        rpc(2, 'tools.list'),
        rpc(3, 'tools.execute', { tool: 'loan_calculator', params: { amount: 500000, months: 60 } }),
      ],
    },
    {
      name: 'mcp',
      at: 'mcp',
      path: '/?token={token}',
      subprotocols: ['mcp'],
      first: [INITIALIZE.send, INITIALIZED.send],
      buttons: [
        INITIALIZE,
        INITIALIZED,
        rpc(2, 'tools/list'),
        rpc(3, 'tools/call', { name: 'loan_calculator', arguments: { amount: 500000, months: 60 } }),
        rpc(4, 'ping'),
      ],
    },
  ],
  snippets: { queryToken: true },
};

const ara = {
  title: 'ARA',
  about: 'One symbol at a time on each socket. The server sends pings, and the page answers them.',
  reconnect: () => 5,
  answers: { ping: { type: 'pong' } },
  sockets: [
    {
      name: 'predictions',
      path: '/ws/predictions/AAPL?token={token}',
      buttons: [
        PONG,
        { label: 'subscribe TSLA', send: symbol('TSLA'), shows: 'prediction_update TSLA' },
        {
          label: 'request_prediction AAPL',
          send: { type: 'request_prediction', symbol: 'AAPL' },
          shows: 'prediction_update AAPL',
        },
        { label: 'request_prediction', send: { type: 'request_prediction' }, shows: 'prediction_update TSLA' },
      ],
    },
    {
      name: 'market-data',
      path: '/ws/market-data/AAPL?token={token}',
      buttons: [
        PONG,
        { label: 'subscribe TSLA', send: symbol('TSLA'), ends: 'market_data_update AAPL' },
        { label: 'subscribe AAPL', send: symbol('AAPL'), shows: 'market_data_update AAPL' },
      ],
    },
    { name: 'alerts', path: '/ws/alerts?token={token}', buttons: [PONG] },
  ],
  calls: [{ method: 'GET', path: '/ws/stats', as: 'token' }],
  snippets: { placeholder: 'YOUR_TOKEN' },
};

export const SEEDS = { sentio, hoardrun, 'stock-agent': stockAgent, financegpt, ara };
