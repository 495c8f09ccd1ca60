package balance_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/peerhq/peer/agent/balance"
)

// A pick from the program's own view; for scale, BenchmarkRequest is one over
// loopback by way of a Transport, and peers=0 one without.
func BenchmarkNext(b *testing.B) {
	agent := httptest.NewServer(oneList("10.0.0.1:80"))
	b.Cleanup(agent.Close)
	w := start(b, balance.Config{Service: "web", Agent: agent.URL}, nil)
	if err := w.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	var peers []*balance.Peer
	for i := range 100 {
		peers = append(peers, &balance.Peer{Name: fmt.Sprint(i), Addr: "10.0.0.1", Port: 80})
	}
	w.Selector().Set(peers)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Cleanup(s.Close)
	agent := httptest.NewServer(oneList(s.Listener.Addr().String()))
	b.Cleanup(agent.Close)
	w := start(b, balance.Config{Service: "web", Agent: agent.URL}, nil)
	if err := w.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	tr := balance.NewTransport(w)
	defer tr.CloseIdleConnections()
	for name, c := range map[string]struct {
		client http.Client
		url    string
	}{
		"peers=0": {http.Client{Transport: http.DefaultTransport}, s.URL},
		"peers=1": {http.Client{Transport: tr}, "http://web/"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := c.client.Get(c.url)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
