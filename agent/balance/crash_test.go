package balance_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/testcluster"
)

// serveWeb runs a web server on n's host that answers with n's name.
func serveWeb(w *testcluster.World, n *testcluster.Node) {
	w.Helper()
	l, err := n.Host().ListenContext(w.Context(), "tcp", ":80")
	if err != nil {
		w.Fatal(err)
	}
	s := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, n.Name)
	})}
	go func() { _ = s.Serve(l) }()
	w.Cleanup(func() { _ = s.Close() })
}

// Hosts crash, lose power, are drained and come back, the program's own agent
// among them, and no request fails: 200 a second for a minute.
func TestNoRequestFails(t *testing.T) {
	testcluster.Virtual(t, func(w *testcluster.World) {
		nodes := []*testcluster.Node{w.Start(testcluster.Spec{Name: "p0"})}
		for i := range 5 {
			n := w.Start(testcluster.Spec{Name: fmt.Sprintf("p%d", i+1), Join: []string{nodes[0].Addr()}, Config: runsWeb(80)})
			serveWeb(w, n)
			nodes = append(nodes, n)
		}
		w.Whole(nodes, 5*time.Second)
		web := beside(w, nodes[0], "web", nil)
		// The program is on a host of its own, so that it outlives its agent's.
		program := w.Intruder()
		base := &http.Transport{DialContext: program.DialContext}
		w.Cleanup(base.CloseIdleConnections)
		tr := balance.NewTransport(web)
		tr.Base, tr.TryTimeout = base, 250*time.Millisecond
		client := http.Client{Transport: tr}

		back := func(n *testcluster.Node) func() {
			return func() {
				n.Restart(nil)
				serveWeb(w, n)
			}
		}
		script := map[int]func(){ // by second
			5:  nodes[1].Kill,
			10: back(nodes[1]),
			15: nodes[2].PowerOff,
			20: nodes[0].Kill,
			25: nodes[3].Kill, // and nobody tells the program
			30: func() { nodes[0].Restart(nil) },
			35: back(nodes[3]),
			40: back(nodes[2]),
			45: nodes[4].Stop,
			50: back(nodes[4]),
		}
		answers := map[string]int{}
		var worst time.Duration
		for i := range 60 * 200 {
			if f := script[i/200]; f != nil && i%200 == 0 {
				f()
			}
			began := time.Now()
			resp, err := client.Get("http://web/")
			if err != nil {
				w.Fatalf("in second %d: %v", i/200, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				w.Fatalf("in second %d: %v", i/200, err)
			}
			answers[string(body)]++
			worst = max(worst, time.Since(began))
			w.Sleep(5 * time.Millisecond)
		}
		w.Logf("12,000 requests, none failed; the slowest took %v; %v", worst, answers)
		if worst > time.Second {
			w.Errorf("the slowest took %v", worst)
		}
		if got := names(web); got != "p1 p2 p3 p4 p5" {
			w.Errorf("in the end %q are handed out", got)
		}
	})
}
