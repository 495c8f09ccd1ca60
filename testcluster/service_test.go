package testcluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// program is a web server beside a peer whose health a test sets.
type program struct {
	code   atomic.Int64
	fell   atomic.Int64 // when the check saw the last of three bad answers, in ns
	bad    atomic.Int64
	server http.Server
}

func (p *program) serve(w *World, n *Node) {
	w.Helper()
	l, err := n.Host().ListenContext(w.Context(), "tcp", "127.0.0.1:8080")
	if err != nil {
		w.Fatal(err)
	}
	p.code.Store(200)
	p.server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		code := p.code.Load()
		if code == 200 {
			p.bad.Store(0)
		} else if p.bad.Add(1) == 3 {
			p.fell.Store(time.Now().UnixNano())
		}
		rw.WriteHeader(int(code))
	})
	go func() { _ = p.server.Serve(l) }()
	w.Cleanup(func() { _ = p.server.Close() })
}

// A service that goes unhealthy on one of ten hosts is out of every host's
// rotation within a second of its fall, and back within a second of its rise.
func TestUnhealthyIsOutOfRotationEverywhere(t *testing.T) {
	testcluster.Virtual(t, func(w *World) {
		var nodes []*Node
		programs := map[string]*program{}
		for i := range 10 {
			s := Spec{Name: fmt.Sprintf("p%d", i), Config: func(c *agent.Config) {
				c.Services = []agent.ServiceConfig{{
					Name: "web", Port: 8080,
					Check: agent.CheckConfig{HTTP: "http://127.0.0.1:8080/healthz", Interval: 2 * time.Second, Timeout: time.Second},
				}}
			}}
			if i > 0 {
				s.Join = []string{nodes[0].Addr()}
			}
			n := w.Start(s)
			programs[n.Name] = new(program)
			programs[n.Name].serve(w, n)
			nodes = append(nodes, n)
		}
		w.Whole(nodes, 5*time.Second)
		eligible := func(want int) func() error {
			return func() error {
				for _, n := range nodes {
					g, err := n.Client().Service(w.Context(), "web", api.ServicesQuery{})
					if err != nil {
						return err
					}
					if g.Eligible != want {
						return fmt.Errorf("%s hands out %d of %d", n.Name, g.Eligible, len(g.Instances))
					}
				}
				return nil
			}
		}
		w.Eventually(10*time.Second, "all ten are handed out", eligible(10))

		var worst time.Duration
		for round := range 5 {
			sick := nodes[2*round]
			p := programs[sick.Name]
			p.fell.Store(0)
			p.bad.Store(0)
			p.code.Store(500)
			w.Eventually(30*time.Second, "its check falls", func() error {
				if p.fell.Load() == 0 {
					return errors.New("three bad answers have not been given")
				}
				return nil
			})
			w.Eventually(5*time.Second, "out of every rotation", eligible(9))
			took := time.Since(time.Unix(0, p.fell.Load()))
			worst = max(worst, took)
			for _, n := range nodes {
				for range 20 {
					next, err := n.Client().Next(w.Context(), api.NextQuery{Service: "web"})
					if err != nil || next.Peers[0].Name == sick.Name || next.Peers[0].Port != 8080 {
						w.Fatalf("%s hands out %+v, %v", n.Name, next.Peers, err)
					}
				}
			}
			g, err := nodes[1].Client().Service(w.Context(), "web", api.ServicesQuery{})
			if err != nil || len(g.Instances) != 10 {
				w.Errorf("the sick one is not visible: %d instances, %v", len(g.Instances), err)
			}
			p.code.Store(204)
			w.Eventually(30*time.Second, "it is back", eligible(10))
		}
		w.Logf("out of all ten rotations %v after the fall at the worst", worst)
		if worst > time.Second {
			w.Errorf("out of all ten rotations only %v after the fall, want 1s", worst)
		}
	})
}

// What is registered while an agent runs is handed out by others, survives a
// crash, and can be drained without going out of sight.
func TestRegistrationsAreKept(t *testing.T) {
	testcluster.Virtual(t, func(w *World) {
		nodes := w.StartMany(3)
		w.Whole(nodes, 5*time.Second)
		a, b := nodes[0], nodes[1]
		ctx := w.Context()
		three := 3
		if err := b.Client().Register(ctx, "web", api.Registration{Port: 8080, Weight: &three, Tags: []string{"canary"}}); err != nil {
			w.Fatal(err)
		}
		if g, err := b.Client().Service(ctx, "web", api.ServicesQuery{}); err != nil || g.Eligible != 1 {
			w.Errorf("who has registered it asks at once: %+v, %v", g, err)
		}
		at := func(want string) {
			w.Helper()
			w.Eventually(2*time.Second, "next web at "+a.Name+" is "+want, func() error {
				next, err := a.Client().Next(ctx, api.NextQuery{Service: "web", ServiceTags: []string{"canary"}})
				var p *api.Problem
				got := "nobody"
				if err == nil {
					got = fmt.Sprintf("%s:%d", next.Peers[0].Name, next.Peers[0].Port)
				} else if !errors.As(err, &p) || p.Kind() != api.KindNoMatch {
					return err
				}
				if got != want {
					return fmt.Errorf("it is %s", got)
				}
				return nil
			})
		}
		at("p1:8080")
		b.Kill()
		at("nobody")
		b.Restart(nil)
		at("p1:8080")
		if err := b.Client().Drain(ctx, "web", true); err != nil {
			w.Fatal(err)
		}
		at("nobody")
		if g, err := a.Client().Service(ctx, "web", api.ServicesQuery{}); err != nil || len(g.Instances) != 1 || !g.Instances[0].Draining || g.Instances[0].Weight != 3 {
			w.Errorf("while it drains: %+v, %v", g, err)
		}
		b.Kill()
		b.Restart(nil)
		w.Sleep(3 * time.Second)
		at("nobody")
		if err := b.Client().Drain(ctx, "web", false); err != nil {
			w.Fatal(err)
		}
		at("p1:8080")
		if err := b.Client().Deregister(ctx, "web"); err != nil {
			w.Fatal(err)
		}
		at("nobody")
		b.Kill()
		b.Restart(nil)
		w.Sleep(3 * time.Second)
		at("nobody")
	})
}
