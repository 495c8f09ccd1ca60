package balance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/selector"
)

// webServers runs web as two programs, each beside an agent of its own, and
// returns where the first agent answers, and the programs.
func webServers() (agentAddr string, programs []*httptest.Server, stop func()) {
	var agents []*agent.Agent
	for _, name := range []string{"anna", "bert"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s%s by %s", r.Host, r.URL.Path, name)
		}))
		programs = append(programs, s)
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		n, _ := strconv.ParseUint(port, 10, 16)

		cfg := agent.DefaultConfig()
		cfg.Name, cfg.Bind, cfg.HTTP.Addr = name, "127.0.0.1:0", "127.0.0.1:0"
		cfg.Services = []agent.ServiceConfig{{Name: "web", Port: uint16(n)}}
		if len(agents) > 0 {
			cfg.Join = []string{agents[0].GossipAddr()}
		}
		a, err := agent.Start(cfg)
		if err != nil {
			panic(err)
		}
		agents = append(agents, a)
	}
	return agents[0].HTTPAddr(), programs, func() {
		for i, a := range agents {
			_ = a.Stop(context.Background())
			programs[i].Close()
		}
	}
}

// A program that sends requests to web, wherever it runs.
func Example() {
	addr, programs, stop := webServers()
	defer stop()

	// In a program beside an agent with its usual address, Service is enough.
	both := make(chan struct{})
	found := sync.OnceFunc(func() { close(both) })
	web, err := balance.Start(balance.Config{Service: "web", Agent: addr, OnChange: func(v balance.View) {
		if len(v.Peers) == 2 {
			found()
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()
	<-both // for the output below; a request would wait for the first peer

	client := http.Client{Transport: balance.NewTransport(web), Timeout: 10 * time.Second}
	get := func() {
		resp, err := client.Get("http://web/hello")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		fmt.Println(string(body), err)
	}
	counts := map[string]int{}
	for range 4 {
		p, err := web.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		counts[p.Name]++
	}
	fmt.Println(counts)

	// One of the programs crashes: the request goes to the other.
	programs[0].Close()
	get()
	get()
	// Output:
	// map[anna:2 bert:2]
	// web/hello by bert <nil>
	// web/hello by bert <nil>
}

// Without HTTP: pick, ask, and report how it went.
func ExampleWatch_Next() {
	addr, _, stop := webServers()
	defer stop()
	web, err := balance.Start(balance.Config{Service: "web", Agent: addr})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	peer, err := web.NextWait(ctx) // Next does not wait
	if err != nil {
		fmt.Println(err)
		return
	}
	began := time.Now()
	conn, err := net.Dial("tcp", peer.HostPort())
	web.Report(peer, err, time.Since(began))
	if err == nil {
		conn.Close()
	}
	fmt.Println(peer.Service, err)
	// Output:
	// web <nil>
}

// Without an agent there is nobody to hand out, and the error says why.
func ExampleNoPeersError() {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	l.Close() // nobody answers there
	web, err := balance.Start(balance.Config{Service: "web", Agent: l.Addr().String()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = web.NextWait(ctx)
	var none *balance.NoPeersError
	if errors.As(err, &none) {
		fmt.Println(none.Service, none.Age < 0, none.Known)
	}
	fmt.Println(errors.Is(err, selector.ErrNoPeers), errors.Is(err, context.DeadlineExceeded))
	// Output:
	// web true 0
	// true true
}
