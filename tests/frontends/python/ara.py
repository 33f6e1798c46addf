"""ARA (document 004): predictions or market data of one symbol, alerts, and a server that pings."""

import asyncio

from kit import ANY_TEXT, SECONDS, AtLeast, Stage, Table, Wrong, eventually, short

table = Table("ara")

PREDICTION = {"predicted_price": 150.25, "confidence": 0.85, "timestamp": "2024-01-01T12:00:00Z"}
MARKET = {"price": 149.5, "volume": 1000000, "timestamp": "2024-01-01T12:00:00Z"}
# The server pings every 30 s, the first time after half of that or later.
PING_S = 31
# It closes clients that have not answered by then.
PONG_S = 10


WELCOMES = {
    "predictions": "Connected to prediction updates for {}",
    "market-data": "Connected to market data stream for {}",
    "alerts": "Connected to alerts stream",
}


def connected(channel: str, symbol: str | None = None) -> dict[str, object]:
    about = {"type": "connected", "channel": channel} | ({"symbol": symbol} if symbol else {})
    return about | {"connection_id": ANY_TEXT, "timestamp": SECONDS, "message": WELCOMES[channel].format(symbol)}


def subscribed(symbol: str) -> dict[str, object]:
    return {"type": "subscribed", "symbol": symbol, "timestamp": SECONDS}


def prediction(symbol: str, data: object = PREDICTION) -> dict[str, object]:
    return {"type": "prediction_update", "symbol": symbol, "data": data, "timestamp": SECONDS}


def market(symbol: str) -> dict[str, object]:
    return {"type": "market_data_update", "symbol": symbol, "data": MARKET, "timestamp": SECONDS}


def error(text: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "message": text, "timestamp": SECONDS}


def symbols(stage: Stage, *names: str) -> list[str]:
    """Unique symbols, in capitals as all symbols of ARA."""
    return [stage.name(name).upper() for name in names]


@table.row("/ws/predictions/{symbol}")
async def predictions(stage: Stage) -> None:
    aapl, tsla = symbols(stage, "AAPL", "TSLA")
    async with stage.socket(f"/ws/predictions/{aapl.lower()}") as socket:
        await socket.expect(connected("predictions", aapl))
        await socket.live(f"predictions.{aapl}")
        await stage.publish(f"predictions.{tsla}", PREDICTION)
        await stage.publish(f"predictions.{aapl}", PREDICTION)
        await socket.expect(prediction(aapl))
        await socket.quiet()
    await stage.refused("/ws/predictions/%2A", 400)
    await stage.refused("/ws/predictions/A%2E%2EB", 400)


@table.row("/ws/market-data/{symbol}")
async def market_data(stage: Stage) -> None:
    aapl, tsla = symbols(stage, "AAPL", "TSLA")
    async with stage.socket(f"/ws/market-data/{aapl}?token={stage.token(stage.name('alice'))}") as socket:
        await socket.expect(connected("market-data", aapl))
        # Producers may write prices.<SYMBOL> or market.<SYMBOL>.
        for subject in ("prices", "market"):
            await socket.live(f"{subject}.{aapl}")
            await stage.publish(f"{subject}.{tsla}", MARKET)
            await stage.publish(f"{subject}.{aapl}", MARKET)
            await socket.expect(market(aapl))
        await socket.quiet()
        await socket.ask({"type": "request_prediction"}, error("Unknown message type: request_prediction"))


@table.row("/ws/alerts")
async def alerts(stage: Stage) -> None:
    async with stage.socket("/ws/alerts") as socket:
        await socket.expect(connected("alerts"))
        await socket.live("alerts")
        alert = {
            "type": "price_alert",
            "symbol": stage.name("AAPL"),
            "message": "Price exceeded $150",
            "severity": "high",
        }
        await stage.publish("alerts", alert)
        await socket.expect({"type": "alert", "data": alert, "timestamp": SECONDS})
        await socket.quiet()


@table.row("symbols with a dot")
async def dotted(stage: Stage) -> None:
    (share,) = symbols(stage, "RELIANCE")
    nse, bse = f"{share}.NS", f"{share}.BO"
    async with (
        stage.socket(f"/ws/predictions/{nse.lower()}?token={stage.token(stage.name('alice'))}") as socket,
        stage.service("predict.>", lambda *_: PREDICTION) as asked,
    ):
        await socket.expect(connected("predictions", nse))
        await socket.live(f"predictions.{nse}")
        await stage.publish(f"predictions.{bse}", PREDICTION)
        await stage.publish(f"predictions.{nse}", PREDICTION)
        await socket.expect(prediction(nse))
        await socket.ask({"type": "request_prediction"}, prediction(nse))
        await socket.ask({"type": "subscribe", "symbol": bse}, subscribed(bse))
        await socket.ask({"type": "request_prediction"}, prediction(bse))
        mine = [subject for subject, _ in asked if share in subject]
        if mine != [f"predict.{nse}", f"predict.{bse}"]:
            raise Wrong(f"the service was asked {short(mine)}")
        await socket.quiet()
    async with stage.socket(f"/ws/market-data/{nse}") as socket:
        await socket.expect(connected("market-data", nse))
        await socket.live(f"prices.{nse}")
        await stage.publish(f"prices.{nse}", MARKET)
        await socket.expect(market(nse))


@table.row("an alert for one user")
async def own_alerts(stage: Stage) -> None:
    alice = stage.name("alice")
    alert = {"type": "price_alert", "message": "yours", "severity": "high"}
    async with stage.socket(f"/ws/alerts?token={stage.token(alice)}") as socket:
        await socket.expect(connected("alerts"))
        await socket.live(f"user.{alice}.notifications")
        await stage.publish(f"user.{stage.name('bob')}.notifications", alert)
        await stage.publish(f"user.{alice}.notifications", alert)
        await socket.expect({"type": "alert", "data": alert, "timestamp": SECONDS})
        await socket.quiet()


@table.row("configure_alerts")
async def configure(stage: Stage) -> None:
    async with stage.socket("/ws/alerts") as socket:
        await socket.expect(connected("alerts"))
        await socket.live("alerts", severity="high")
        for config in ({"severity": ["high"]}, {"email": True}):
            answer = {"type": "alerts_configured", "config": config, "timestamp": SECONDS}
            answer["message"] = "Alert configuration updated"
            await socket.ask({"type": "configure_alerts", "config": config}, answer)
        for severity in ("low", "high"):
            await stage.publish("alerts", {"severity": severity, "tag": stage.tag})
        alert = {"severity": "high", "tag": stage.tag}
        await socket.expect({"type": "alert", "data": alert, "timestamp": SECONDS})
        await socket.quiet()


@table.row("the token is optional, and an invalid one is rejected")
async def token(stage: Stage) -> None:
    for path, greeting in (
        ("/ws/predictions/AAPL", connected("predictions", "AAPL")),
        ("/ws/market-data/AAPL", connected("market-data", "AAPL")),
        ("/ws/alerts", connected("alerts")),
    ):
        async with stage.socket(f"{path}?token={stage.token(stage.name('alice'))}") as socket:
            await socket.expect(greeting)
        await stage.refused(f"{path}?token=nonsense", 401)


@table.row("the token may be an API key")
async def api_key(stage: Stage) -> None:
    (aapl,) = symbols(stage, "AAPL")
    async with stage.socket(f"/ws/alerts?token={stage.key()}") as socket:
        await socket.expect(connected("alerts"))
    async with (
        stage.socket(f"/ws/predictions/{aapl}?token={stage.key()}") as socket,
        stage.service(f"predict.{aapl}", lambda *_: PREDICTION),
    ):
        await socket.expect(connected("predictions", aapl))
        await socket.ask({"type": "request_prediction"}, prediction(aapl))
    await stage.refused(f"/ws/alerts?token={stage.key()}x", 401)


@table.row("subscribe replaces the symbol")
async def subscribe(stage: Stage) -> None:
    aapl, tsla, msft = symbols(stage, "AAPL", "TSLA", "MSFT")
    for path, subject, update, data in (
        ("predictions", "predictions", prediction, PREDICTION),
        ("market-data", "prices", market, MARKET),
    ):
        async with stage.socket(f"/ws/{path}/{aapl}") as socket:
            await socket.expect(connected(path, aapl))
            await socket.live(f"{subject}.{aapl}")
            for old, new in ((aapl, tsla), (tsla, msft)):
                await socket.ask({"type": "subscribe", "symbol": new.lower()}, subscribed(new))
                await stage.publish(f"{subject}.{old}", data)
                await stage.publish(f"{subject}.{new}", data)
                await socket.expect(update(new))
                await socket.quiet()


@table.row("request_prediction")
async def request_prediction(stage: Stage) -> None:
    aapl, tsla, msft = symbols(stage, "AAPL", "TSLA", "MSFT")
    reply = {"predicted_price": 201, "confidence": 0.5}
    path = f"/ws/predictions/{aapl}?token={stage.token(stage.name('alice'))}"
    async with stage.socket(path) as socket, stage.service("predict.*", lambda *_: reply) as asked:
        await socket.expect(connected("predictions", aapl))
        await socket.ask({"type": "request_prediction"}, prediction(aapl, reply))
        await socket.ask({"type": "subscribe", "symbol": tsla}, subscribed(tsla))
        await socket.ask({"type": "request_prediction"}, prediction(tsla, reply))
        await socket.ask({"type": "request_prediction", "symbol": msft.lower()}, prediction(msft, reply))
        subjects = [subject for subject, _ in asked]
        if subjects != [f"predict.{it}" for it in (aapl, tsla, msft)]:
            raise Wrong(f"the service was asked {short(subjects)}")
        if asked[2][1] != {"type": "request_prediction", "symbol": msft.lower()}:
            raise Wrong(f"the service was given {short(asked[2][1])}, not the client's message")


@table.row("error")
async def errors(stage: Stage) -> None:
    (aapl,) = symbols(stage, "AAPL")
    async with stage.socket(f"/ws/predictions/{aapl}?token={stage.token(stage.name('alice'))}") as socket:
        await socket.expect(connected("predictions", aapl))
        await socket.ask({"type": "request_prediction"}, error())
        await socket.ask({"type": "dance"}, error("Unknown message type: dance"))
        await socket.ask({"type": "subscribe"}, error("`symbol` is missing"))
        await socket.ask({"type": "subscribe", "symbol": "a..b"}, error())
        await socket.ask("{", error())
        await socket.live(f"predictions.{aapl}")
    # Clients without a credential may not request a prediction.
    async with stage.socket(f"/ws/predictions/{aapl}") as socket:
        await socket.expect(connected("predictions", aapl))
        await socket.ask({"type": "request_prediction"}, error())


@table.row("stats")
async def stats(stage: Stage) -> None:
    async with stage.socket("/ws/alerts") as socket:
        await socket.expect(connected("alerts"))

        async def counted() -> None:
            status, got = await stage.http("GET", "/ws/stats")
            if (
                status != 200
                or list(got) != ["total_connections", "channels"]
                or not AtLeast(1).matches(got["total_connections"])
            ):
                raise Wrong(f"GET /ws/stats: {status} {short(got)}")
            if not AtLeast(1).matches(got["channels"].get("alerts")):
                raise Wrong(f"GET /ws/stats: alerts is not counted in {short(got)}")

        await eventually(counted)


@table.row("the server pings, the client answers")
async def heartbeat(stage: Stage) -> None:
    (aapl,) = symbols(stage, "AAPL")
    async with stage.socket(f"/ws/predictions/{aapl}") as socket:
        await socket.expect(connected("predictions", aapl))
        await socket.expect({"type": "ping", "timestamp": SECONDS}, PING_S)
        await socket.send({"type": "pong"})
        await asyncio.sleep(PONG_S + 1)
        await socket.quiet()
        await socket.live(f"predictions.{aapl}")
