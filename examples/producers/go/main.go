// Feeds Sentio or ARA with what its backend would publish on NATS.
//
//	go run . sentio                 one of each event every second, until Ctrl-C
//	go run . ara --every 100        ten times as often
//	go run . ara --once             one of each, and out
//	go run . ara --serve            and answer requests for predictions
package main

import (
	"encoding/json"
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

// An object is the payload of an event: what the page shows.
type object map[string]any

// An event's subject says for whom or about what it is.
type event struct {
	subject string
	payload object
}

func sentio(user string, n int) []event {
	now := time.Now().UTC().Format("2006-01-02T15:04:05")
	signal := func(symbol, signal string, confidence float64) event {
		return event{"signals." + symbol, object{
			"symbol": symbol, "signal": signal, "confidence": confidence, "timestamp": now,
		}}
	}
	return []event{
		signal("AAPL", "buy", 0.85),
		signal("GOOGL", "hold", 0.6),
		signal("MSFT", "sell", 0.5),
		{"market.AAPL", object{"price": about(190)}},
		{"user." + user + ".earnings", object{
			"portfolio_value": about(100000), "total_return": 5000.0, "daily_pnl": 250.0, "win_rate": 0.65,
		}},
		{"user." + user + ".notifications", object{
			"id": n, "type": "success", "title": "Trade Executed",
			"message": "Your AAPL buy order has been executed", "timestamp": now,
		}},
		{"admin.users", object{"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}},
		{"admin.revenue", object{"monthly_revenue": 15000.0}},
	}
}

func ara(string, int) []event {
	return []event{
		{"predictions.AAPL", prediction(150.25)},
		{"predictions.TSLA", prediction(200)},
		{"market.AAPL", object{"price": about(149.5), "volume": 1000000, "timestamp": time.Now().UTC().Format(time.RFC3339)}},
		{"alerts", object{"type": "price_alert", "symbol": "AAPL", "message": "Price exceeded $150", "severity": "high"}},
	}
}

func prediction(price float64) object {
	return object{"predicted_price": about(price), "confidence": 0.85, "timestamp": time.Now().UTC().Format(time.RFC3339)}
}

func about(price float64) float64 {
	return math.Round(price*(0.99+rand.Float64()/50)*100) / 100
}

// predict answers a page's request_prediction; the symbol is in the subject.
func predict(request *nats.Msg) {
	symbol := strings.TrimPrefix(request.Subject, "predict.")
	answer := prediction(150)
	answer["symbol"] = symbol
	payload, err := json.Marshal(answer)
	if err != nil {
		log.Print(err)
		return
	}
	if err := request.Respond(payload); err != nil {
		log.Print(err)
	}
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	flags := flag.NewFlagSet("feed", flag.ExitOnError)
	url := flags.String("nats", nats.DefaultURL, "where nats-server is")
	user := flags.String("user", "user_001", "whose events")
	once := flags.Bool("once", false, "publish one of each event, and exit")
	every := flags.Int("every", 1000, "milliseconds from one round of events to the next")
	serve := flags.Bool("serve", false, "answer requests too, until Ctrl-C")
	seeds := map[string]func(string, int) []event{"sentio": sentio, "ara": ara}
	if len(os.Args) < 2 || seeds[os.Args[1]] == nil {
		return fmt.Errorf("usage: feed sentio|ara [--nats URL] [--user ID] [--once] [--every MS] [--serve]")
	}
	seed := os.Args[1]
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}

	nc, err := nats.Connect(*url, nats.Name(seed+" feed"))
	if err != nil {
		return err
	}
	defer nc.Close()
	if *serve && seed == "ara" {
		// With a queue group, any number of these programs share the requests.
		if _, err := nc.QueueSubscribe("predict.*", "feed", predict); err != nil {
			return err
		}
		fmt.Println("answering predict.*")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	for n := 1; ; n++ {
		for _, event := range seeds[seed](*user, n) {
			payload, err := json.Marshal(event.payload)
			if err != nil {
				return err
			}
			if err := nc.Publish(event.subject, payload); err != nil {
				return err
			}
		}
		if err := nc.Flush(); err != nil {
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
	if *serve {
		<-stop
	}
	return nc.Drain()
}
