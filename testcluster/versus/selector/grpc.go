package main

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	v3orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/roundrobin"         // registers itself
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // registers itself
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// grpc is a balancer of gRPC over connections that are always ready: what it
// does to a connection is answered at once, one call after the other, on one
// goroutine, as gRPC does.
//
// It is the balancer's ClientConn.
type grpc struct {
	balancer.ClientConn // nil: what is not below is not called
	bal                 balancer.Balancer
	config              serviceconfig.LoadBalancingConfig
	picker              atomic.Pointer[balancer.Picker]

	mu    sync.Mutex // guards calls
	calls []func()   // the balancer is called by at most one goroutine
}

func newGRPC(name, config string) *grpc {
	g := &grpc{}
	b := balancer.Get(name)
	if p, ok := b.(balancer.ConfigParser); ok {
		var err error
		if g.config, err = p.ParseConfig(json.RawMessage(config)); err != nil {
			panic(err)
		}
	}
	g.bal = b.Build(g, balancer.BuildOptions{})
	return g
}

// conn is one connection.
type conn struct {
	balancer.SubConn // nil
	g                *grpc
	addr             string
	listener         func(balancer.SubConnState)
}

func (c *conn) Connect() {
	c.g.later(func() { c.listener(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) })
	c.g.later(func() { c.listener(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (c *conn) Shutdown() {
	c.g.later(func() { c.listener(balancer.SubConnState{ConnectivityState: connectivity.Shutdown}) })
}

func (c *conn) RegisterHealthListener(f func(balancer.SubConnState)) {
	if f != nil {
		c.g.later(func() { f(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
	}
}

func (g *grpc) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &conn{g: g, addr: addrs[0].Addr, listener: opts.StateListener}, nil
}

func (g *grpc) UpdateState(s balancer.State)          { g.picker.Store(&s.Picker) }
func (g *grpc) ResolveNow(resolver.ResolveNowOptions) {}
func (g *grpc) Target() string                        { return "versus" }
func (g *grpc) MetricsRecorder() estats.MetricsRecorder {
	return silent{}
}

// silent records nothing.
type silent struct {
	estats.UnimplementedMetricsRecorder
}

func (g *grpc) later(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, f)
}

// set gives the balancer the peers, and answers until it wants nothing more.
func (g *grpc) set(peers []string) {
	endpoints := make([]resolver.Endpoint, len(peers))
	for i, p := range peers {
		endpoints[i].Addresses = []resolver.Address{{Addr: p}}
	}
	if err := g.bal.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: resolver.State{Endpoints: endpoints}, BalancerConfig: g.config,
	}); err != nil {
		panic(err)
	}
	for {
		g.mu.Lock()
		calls := g.calls
		g.calls = nil
		g.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, f := range calls {
			f()
		}
	}
}

// weigh reports loads that give each peer its weight, and waits until the
// balancer goes by them.
func (g *grpc) weigh(n int, weight func(string) int) {
	for range 4 * n {
		r, err := (*g.picker.Load()).Pick(balancer.PickInfo{})
		if err != nil {
			panic(err)
		}
		r.Done(balancer.DoneInfo{ServerLoad: &v3orcapb.OrcaLoadReport{
			RpsFractional: float64(100 * weight(r.SubConn.(*conn).addr)), ApplicationUtilization: 0.5,
		}})
	}
	time.Sleep(300 * time.Millisecond) // three of its periods
}

func (g *grpc) next() string {
	r, err := (*g.picker.Load()).Pick(balancer.PickInfo{})
	if err != nil {
		panic(err) // all connections are ready
	}
	return r.SubConn.(*conn).addr
}

func (g *grpc) bench() bench {
	return bench{
		loop: func(n int) (length int) {
			info := balancer.PickInfo{Ctx: context.Background()}
			p := *g.picker.Load()
			for range n {
				if r, _ := p.Pick(info); r.SubConn != nil {
					length++
				}
			}
			return length
		},
		close: g.bal.Close,
	}
}
