// ARA (document 004): predictions or market data of one symbol, alerts, and a server that pings.

import { ANY, ANY_TEXT, SECONDS, Wrong, atLeast, eventually, same, short, sleep } from './kit.mjs';

const PREDICTION = { predicted_price: 150.25, confidence: 0.85, timestamp: '2024-01-01T12:00:00Z' };
const MARKET = { price: 149.5, volume: 1000000, timestamp: '2024-01-01T12:00:00Z' };
// The server pings every 30 s, the first time after half of that or later, and closes clients that do not answer in
// time.
const PING_MS = 31_000;
const PONG_MS = 10_000;

const prediction = (symbol, data = PREDICTION) => ({ type: 'prediction_update', symbol, data, timestamp: SECONDS });
const market = (symbol) => ({ type: 'market_data_update', symbol, data: MARKET, timestamp: SECONDS });
const error = (text = ANY_TEXT) => ({ type: 'error', message: text, timestamp: SECONDS });
/** Unique symbols, in capitals as all symbols of ARA. */
const symbols = (stage, ...names) => names.map((name) => stage.name(name).toUpperCase());

const subscribed = (symbol) => ({ type: 'subscribed', symbol, timestamp: SECONDS });
const WELCOMES = {
  predictions: (symbol) => `Connected to prediction updates for ${symbol}`,
  'market-data': (symbol) => `Connected to market data stream for ${symbol}`,
  alerts: () => 'Connected to alerts stream',
};

/** A page that has received the greeting. */
async function page(stage, channel, symbol, { token, shown = symbol } = {}) {
  const path = symbol ? `/ws/${channel}/${symbol}` : `/ws/${channel}`;
  const socket = await stage.socket(token ? `${path}?token=${token}` : path);
  const about = { type: 'connected', channel, ...(symbol && { symbol: shown }) };
  await socket.expect({ ...about, connection_id: ANY_TEXT, timestamp: SECONDS, message: WELCOMES[channel](shown) });
  return socket;
}

export const rows = {
  '/ws/predictions/{symbol}': async (stage) => {
    const [aapl, tsla] = symbols(stage, 'AAPL', 'TSLA');
    const socket = await page(stage, 'predictions', aapl.toLowerCase(), { shown: aapl });
    await socket.live(`predictions.${aapl}`);
    await stage.publish(`predictions.${tsla}`, PREDICTION);
    await stage.publish(`predictions.${aapl}`, PREDICTION);
    await socket.expect(prediction(aapl));
    await socket.quiet();
    await stage.refused('/ws/predictions/%2A', 400);
    await stage.refused('/ws/predictions/A%2E%2EB', 400);
  },

  '/ws/market-data/{symbol}': async (stage) => {
    const [aapl, tsla] = symbols(stage, 'AAPL', 'TSLA');
    const socket = await page(stage, 'market-data', aapl, { token: await stage.token(stage.name('alice')) });
    // Producers may write prices.<SYMBOL> or market.<SYMBOL>.
    for (const subject of ['prices', 'market']) {
      await socket.live(`${subject}.${aapl}`);
      await stage.publish(`${subject}.${tsla}`, MARKET);
      await stage.publish(`${subject}.${aapl}`, MARKET);
      await socket.expect(market(aapl));
    }
    await socket.quiet();
    await socket.ask({ type: 'request_prediction' }, error('Unknown message type: request_prediction'));
  },

  '/ws/alerts': async (stage) => {
    const socket = await page(stage, 'alerts');
    await socket.live('alerts');
    const alert = { type: 'price_alert', symbol: stage.name('AAPL'), message: 'Price exceeded $150', severity: 'high' };
    await stage.publish('alerts', alert);
    await socket.expect({ type: 'alert', data: alert, timestamp: SECONDS });
    await socket.quiet();
  },

  'symbols with a dot': async (stage) => {
    const [share] = symbols(stage, 'RELIANCE');
    const [nse, bse] = [`${share}.NS`, `${share}.BO`];
    const token = await stage.token(stage.name('alice'));
    const socket = await page(stage, 'predictions', nse.toLowerCase(), { token, shown: nse });
    await socket.live(`predictions.${nse}`);
    await stage.publish(`predictions.${bse}`, PREDICTION);
    await stage.publish(`predictions.${nse}`, PREDICTION);
    await socket.expect(prediction(nse));
    await stage.service('predict.>', { reply: PREDICTION }, async () => {
      await socket.ask({ type: 'request_prediction' }, prediction(nse));
      await socket.ask({ type: 'subscribe', symbol: bse }, subscribed(bse));
      await socket.ask({ type: 'request_prediction' }, prediction(bse));
    });
    await socket.quiet();
  },

  'the token is optional, and an invalid one is rejected': async (stage) => {
    const token = await stage.token(stage.name('alice'));
    await page(stage, 'predictions', 'AAPL', { token });
    await page(stage, 'market-data', 'AAPL', { token });
    await page(stage, 'alerts', undefined, { token });
    for (const path of ['/ws/predictions/AAPL', '/ws/market-data/AAPL', '/ws/alerts']) {
      await stage.refused(`${path}?token=nonsense`, 401);
    }
  },

  'the token may be an API key': async (stage) => {
    const [aapl] = symbols(stage, 'AAPL');
    await page(stage, 'alerts', undefined, { token: stage.key() });
    const socket = await page(stage, 'predictions', aapl, { token: stage.key() });
    const answered = () => socket.ask({ type: 'request_prediction' }, prediction(aapl));
    await stage.service(`predict.${aapl}`, { reply: PREDICTION }, answered);
    await stage.refused(`/ws/alerts?token=${stage.key()}x`, 401);
  },

  'subscribe replaces the symbol': async (stage) => {
    const [aapl, tsla, msft] = symbols(stage, 'AAPL', 'TSLA', 'MSFT');
    for (const [channel, subject, update, data] of [
      ['predictions', 'predictions', prediction, PREDICTION],
      ['market-data', 'prices', market, MARKET],
    ]) {
      const socket = await page(stage, channel, aapl);
      await socket.live(`${subject}.${aapl}`);
      for (const [old, symbol] of [
        [aapl, tsla],
        [tsla, msft],
      ]) {
        await socket.ask({ type: 'subscribe', symbol: symbol.toLowerCase() }, subscribed(symbol));
        await stage.publish(`${subject}.${old}`, data);
        await stage.publish(`${subject}.${symbol}`, data);
        await socket.expect(update(symbol));
        await socket.quiet();
      }
    }
  },

  request_prediction: async (stage) => {
    const [aapl, tsla, msft] = symbols(stage, 'AAPL', 'TSLA', 'MSFT');
    const reply = { predicted_price: 201, confidence: 0.5 };
    const socket = await page(stage, 'predictions', aapl, { token: await stage.token(stage.name('alice')) });
    const asked = await stage.service('predict.*', { reply }, async () => {
      await socket.ask({ type: 'request_prediction' }, prediction(aapl, reply));
      await socket.ask({ type: 'subscribe', symbol: tsla }, subscribed(tsla));
      await socket.ask({ type: 'request_prediction' }, prediction(tsla, reply));
      await socket.ask({ type: 'request_prediction', symbol: msft.toLowerCase() }, prediction(msft, reply));
    });
    const wanted = [
      [`predict.${aapl}`, { type: 'request_prediction' }],
      [`predict.${tsla}`, { type: 'request_prediction' }],
      [`predict.${msft}`, { type: 'request_prediction', symbol: msft.toLowerCase() }],
    ];
    if (!same(wanted, asked)) throw new Wrong(`the service was asked ${short(asked)}, not ${short(wanted)}`);
  },

  error: async (stage) => {
    const [aapl] = symbols(stage, 'AAPL');
    const socket = await page(stage, 'predictions', aapl, { token: await stage.token(stage.name('alice')) });
    await socket.ask({ type: 'request_prediction' }, error());
    await socket.ask({ type: 'dance' }, error('Unknown message type: dance'));
    await socket.ask({ type: 'subscribe' }, error('`symbol` is missing'));
    await socket.ask({ type: 'subscribe', symbol: 'a..b' }, error());
    await socket.ask('{', error());
    await socket.live(`predictions.${aapl}`);
    // Clients without a credential may not request a prediction.
    const guest = await page(stage, 'predictions', aapl);
    await guest.ask({ type: 'request_prediction' }, error());
  },

  stats: async (stage) => {
    await page(stage, 'alerts');
    await eventually(async () => {
      const [status, got] = await stage.http('GET', '/ws/stats');
      const right =
        status === 200 && same({ total_connections: atLeast(1), channels: ANY }, got) && got.channels.alerts >= 1;
      if (!right) throw new Wrong(`GET /ws/stats: alerts is not counted in ${status} ${short(got)}`);
    });
  },

  'the server pings, the client answers': async (stage) => {
    const [aapl] = symbols(stage, 'AAPL');
    const socket = await page(stage, 'predictions', aapl);
    await socket.expect({ type: 'ping', timestamp: SECONDS }, PING_MS);
    socket.send({ type: 'pong' });
    await sleep(PONG_MS + 1000);
    await socket.quiet();
    await socket.live(`predictions.${aapl}`);
  },
};
