// Publishes on NATS what the backend of one of the five systems in vocabularies/ would publish.
//
//	go run . stock-agent                 publish one of each event every second, until Ctrl-C
//	go run . stock-agent --every 100     ten times as often
//	go run . stock-agent --once          publish one of each event, and exit
//	go run . financegpt --serve          also answer the requests of its pages and tools
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// object is a JSON object: an event's payload, or a client's message.
type object map[string]any

// event is one publication. The subject has the recipient or the topic; the payload is what the page shows.
type event struct {
	subject string
	payload object
}

// service answers requests. It gets the tokens of the subject, and the client's message.
type service func(subject []string, request object) (any, error)

type system struct {
	user     string // the user of the events, without --user
	events   func(user string, n int) []event
	services map[string]service
}

var systems = map[string]system{
	"financegpt": {"USR001", financegpt, map[string]service{
		"finance.*.balance":       balance,
		"finance.*.transactions":  transactions,
		"finance.*.acknowledge":   acknowledge,
		"mcp.tools":               tools,
		"tools.loan_calculator.*": loanCalculator,
	}},
	"hoardrun": {"u1", hoardrun, nil},
	// Pages of Stock Agent without a token are the user "anonymous".
	"stock-agent": {"anonymous", stockAgent, nil},
	"sentio":      {"user_001", sentio, nil},
	"ara":         {"anonymous", ara, map[string]service{"predict.>": predict}},
}

func now() string {
	return time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
}

func cents(price float64) float64 {
	return math.Round(price*100) / 100
}

func about(price float64) float64 {
	return cents(price * (0.99 + rand.Float64()/50))
}

func financegpt(user string, n int) []event {
	mine := "user." + user + "."
	balance := about(45000)
	// The last token of the subject is the type of the event; the payload has the other members.
	return []event{
		{mine + "balance_update", object{
			"new_balance": balance, "transaction": object{"id": fmt.Sprintf("TXN%d", n), "amount": -5000},
		}},
		{mine + "transaction_alert", object{"amount": about(1200), "merchant": "Cafe"}},
		{mine + "fraud_alert", object{"alert_id": fmt.Sprintf("alert-%d", n), "message": "FRAUD ALERT! Block card?"}},
		{mine + "goal_progress", object{"goal": "car", "percent": n % 101}},
		{mine + "market_update", object{"holding": "INFY", "value": about(15000)}},
		{mine + "bill_reminder", object{"bill": "rent", "due": "2026-12-01"}},
		{mine + "insight_ready", object{"insight": "You spend less on Mondays"}},
		{mine + "system_notification", object{"message": "maintenance at night"}},
		{mine + "URGENT_FRAUD_ALERT", object{
			"message": "Suspicious ₹35,000 transaction detected!", "action_required": true,
		}},
		// One publication for all users of the account.
		{"account.ACC1.updates", object{"by": user, "withdrawn": 5000, "new_balance": balance}},
		{"market.INFY", object{"symbol": "INFY", "price": about(1500), "change": about(1)}},
		{"market.RELIANCE", object{"symbol": "RELIANCE", "price": about(2891.4), "change": about(-12.1)}},
		// MCP clients receive it as the notification notifications/tools/list_changed.
		{"mcp.notify.tools.list_changed", object{}},
	}
}

func hoardrun(user string, n int) []event {
	mine := "user." + user + "."
	types := []string{"transaction", "security", "savings"}
	return []event{
		{mine + "notifications", object{
			"id": fmt.Sprintf("n%d", n), "title": "Login", "message": "New device", "type": types[rand.IntN(len(types))],
			"priority": "high", "metadata": object{}, "created_at": now(),
		}},
		{mine + "transactions", object{
			"transaction_id": fmt.Sprintf("t%d", n), "status": "completed", "amount": about(120), "timestamp": now(),
		}},
		{mine + "balance", object{"balance": about(880), "currency": "USD"}},
		{"room.market_data", object{"symbol": "AAPL", "price": about(190)}},
		{"room.crypto", object{"symbol": "BTC", "price": about(90000)}},
		{"system.announcements", object{"title": "Maintenance", "message": "tonight"}},
	}
}

func stockAgent(user string, n int) []event {
	mine := "user." + user + "."
	quote := func(symbol string, start float64) event {
		price := about(start)
		change := cents(price - start)
		return event{"prices." + symbol, object{
			"price": price, "change": change, "change_pct": cents(change / start * 100),
			"volume": 45000000 + n, "bid": cents(price - 0.05), "ask": cents(price + 0.05),
		}}
	}
	return []event{
		quote("AAPL", 185.5),
		quote("MSFT", 401),
		quote("GOOGL", 140),
		{"alerts", object{
			"id": fmt.Sprintf("alert-%d", n), "symbol": "AAPL", "type": "price_threshold",
			"message": "AAPL crossed $185", "severity": "info",
		}},
		{"signals", object{
			"symbol": "AAPL", "action": "buy", "confidence": 0.85, "reasoning": "Strong bullish momentum...",
		}},
		{"system.notifications", object{
			"id": fmt.Sprintf("notif-%d", n), "message": "Model training completed", "type": "success",
		}},
		{mine + "notifications", object{"id": fmt.Sprintf("mine-%d", n), "message": "Order filled", "type": "info"}},
		{mine + "portfolio", object{"value": about(100000), "positions": object{"AAPL": 10}}},
	}
}

func sentio(user string, n int) []event {
	mine := "user." + user + "."
	signal := func(symbol, signal string) event {
		return event{"signals." + symbol, object{
			"symbol": symbol, "signal": signal, "confidence": 0.85, "timestamp": now(),
		}}
	}
	return []event{
		signal("AAPL", "buy"),
		signal("GOOGL", "hold"),
		signal("MSFT", "sell"),
		{"prices.AAPL", object{"symbol": "AAPL", "price": about(190)}},
		{mine + "earnings", object{
			"portfolio_value": about(100000), "total_return": 5000.0, "daily_pnl": 250.0, "win_rate": 0.65,
		}},
		{mine + "notifications", object{
			"id": n, "type": "success", "title": "Trade Executed", "timestamp": now(),
			"message": "Your AAPL buy order has been executed",
		}},
		{"admin.users", object{"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}},
		{"admin.revenue", object{"monthly_revenue": 15000.0}},
	}
}

func ara(string, int) []event {
	prediction := func(symbol string, price, confidence float64) event {
		return event{"predictions." + symbol, object{
			"predicted_price": about(price), "confidence": confidence, "timestamp": now(),
		}}
	}
	return []event{
		prediction("AAPL", 150.25, 0.85),
		prediction("TSLA", 200, 0.7),
		{"prices.AAPL", object{"price": about(149.5), "volume": 1000000, "timestamp": now()}},
		{"alerts", object{
			"type": "price_alert", "symbol": "AAPL", "message": "Price exceeded $150", "severity": "high",
		}},
	}
}

func balance(_ []string, request object) (any, error) {
	account, ok := request["account"].(string)
	if !ok {
		account = "savings"
	}
	return map[string]float64{"savings": 45000.5, "current": 1200}[account], nil
}

func transactions(_ []string, request object) (any, error) {
	all := []object{}
	for n := 1; n <= min(int(number(request, "limit", 10)), 20); n++ {
		all = append(all, object{"id": fmt.Sprintf("TXN%d", n), "amount": -100 * n})
	}
	return all, nil
}

func acknowledge([]string, object) (any, error) {
	return object{"ok": true}, nil
}

func tools([]string, object) (any, error) {
	return object{"tools": []object{{
		"name":        "loan_calculator",
		"description": "The monthly payment of a loan",
		"inputSchema": object{
			"type": "object",
			"properties": object{
				"amount": object{"type": "number"}, "months": object{"type": "integer"}, "rate": object{"type": "number"},
			},
			"required": []string{"amount"},
		},
	}}}, nil
}

func loanCalculator(subject []string, arguments object) (any, error) {
	// The user is in the subject, which only Tidegate writes. Ignore what a client claims in its message.
	user := subject[2]
	months, monthly := number(arguments, "months", 12), number(arguments, "rate", 10)/1200
	payment := number(arguments, "amount", math.NaN()) * monthly / (1 - math.Pow(1+monthly, -months))
	if math.IsNaN(payment) || math.IsInf(payment, 0) {
		return nil, errors.New("this amount, months and rate give no payment")
	}
	text := fmt.Sprintf("%s pays %.2f a month for %v months", user, payment, months)
	return object{"content": []object{{"type": "text", "text": text}}, "isError": false}, nil
}

func predict(subject []string, _ object) (any, error) {
	// A symbol may have dots, as BRK.B.
	return object{
		"symbol": strings.Join(subject[1:], "."), "predicted_price": about(150), "confidence": 0.85, "timestamp": now(),
	}, nil
}

func number(request object, name string, otherwise float64) float64 {
	if value, ok := request[name].(float64); ok {
		return value
	}
	return otherwise
}

func serve(nc *nats.Conn, subject string, answer service) error {
	// With a queue group, several instances of this program share the requests.
	_, err := nc.QueueSubscribe(subject, "feed", func(message *nats.Msg) {
		reply := nats.NewMsg(message.Reply)
		payload, err := answered(message, answer)
		if err != nil {
			// Tells Tidegate that this is an error; NATS' own service libraries do the same.
			reply.Header.Set("Nats-Service-Error", err.Error())
			reply.Header.Set("Nats-Service-Error-Code", "500")
		}
		reply.Data = payload
		if err := message.RespondMsg(reply); err != nil {
			log.Print(err)
		}
	})
	if err == nil {
		fmt.Println("answering", subject)
	}
	return err
}

func answered(message *nats.Msg, answer service) ([]byte, error) {
	var request object
	if err := json.Unmarshal(message.Data, &request); err != nil {
		return nil, err
	}
	reply, err := answer(strings.Split(message.Subject, "."), request)
	if err != nil {
		return nil, err
	}
	return json.Marshal(reply)
}

func publish(nc *nats.Conn, events []event) error {
	for _, event := range events {
		payload, err := json.Marshal(event.payload)
		if err != nil {
			return err
		}
		if err := nc.Publish(event.subject, payload); err != nil {
			return err
		}
	}
	return nc.Flush()
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	var seed string
	if len(os.Args) > 1 {
		seed = os.Args[1]
	}
	system, known := systems[seed]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: feed financegpt|hoardrun|stock-agent|sentio|ara",
			"[--nats URL] [--user ID] [--once | --every MS] [--serve]")
		os.Exit(64)
	}
	flags := flag.NewFlagSet("feed", flag.ExitOnError)
	url := flags.String("nats", nats.DefaultURL, "the address of nats-server")
	user := flags.String("user", system.user, "the user of the events")
	once := flags.Bool("once", false, "publish one of each event, and exit")
	every := flags.Int("every", 1000, "milliseconds between two rounds of events")
	answers := flags.Bool("serve", false, "also answer requests, until Ctrl-C")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}

	nc, err := nats.Connect(*url, nats.Name(seed+" feed"))
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	if *answers {
		for subject, answer := range system.services {
			if err := serve(nc, subject, answer); err != nil {
				return err
			}
		}
	}
	for n := 1; ; n++ {
		if err := publish(nc, system.events(*user, n)); err != nil {
			return err
		}
		if *once {
			break
		}
		select {
		case <-stop:
			return nc.Drain()
		case <-time.After(time.Duration(*every) * time.Millisecond):
		}
	}
	if *answers {
		<-stop
	}
	return nc.Drain()
}
