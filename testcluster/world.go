package testcluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// A World is where a scenario happens. It judges peers from outside only, by
// the documents of their HTTP endpoint and their event feeds.
//
// A scenario is a func(*World); [Virtual], [Loopback], [Processes] and
// [Namespaces] run it. It belongs to the one goroutine that runs it. When the
// scenario ends the world stops all that still runs, and after a failure it
// prints every event and every peer's log.
type World struct {
	testing.TB
	Name     string
	Redis    Redis // what StartRedis started
	record   recorder
	machines machines
	nodes    []*Node
}

// machines is a world's way to have hosts and a network between them.
type machines interface {
	// host finds a place for a new peer, or a new one for an old.
	host(n *Node) host
	redis() Redis
	// cut loses what hosts of from send to hosts of to.
	cut(from, to []*Node)
	isolate(n *Node)
	heal()
}

// host is where one peer lives, and its process.
type host interface {
	// addr is the gossip address, HOST:PORT.
	addr() string
	// start starts the peer and returns a client for it, or an error of the
	// start itself.
	start(n *Node, s Spec) (*api.Client, error)
	// stop ends it politely and returns when it is gone.
	stop() error
	// left returns when it is gone after it was asked to leave over HTTP.
	left() error
	kill()
	powerOff()
	pause()
	resume()
	// dial is how another program on the same host reaches the network.
	dial(ctx context.Context, network, addr string) (net.Conn, error)
	logs() string
}

// Spec is how a peer is started.
type Spec struct {
	Name  string
	Join  []string // seed addresses
	Tags  map[string]string
	Redis bool // with the world's Redis

	Bind      string // the gossip address, instead of its host's own
	Advertise string

	// ClockOffset is how wrong the host's clock is. In process only.
	ClockOffset time.Duration
	// FS replaces the file system. In process only.
	FS *MemFS
	// Config changes the rest. In process only.
	Config func(*agent.Config)
}

// Node is one peer of a world, through all its restarts.
type Node struct {
	Name string

	w      *World
	spec   Spec
	host   host
	client *api.Client
	follow context.CancelFunc
	up     bool
}

// StartRedis starts the world's Redis, once.
func (w *World) StartRedis() Redis {
	w.Helper()
	if w.Redis == nil {
		w.Redis = w.machines.redis()
	}
	return w.Redis
}

// Start starts a peer that must come up.
func (w *World) Start(s Spec) *Node {
	w.Helper()
	n := w.Place(s)
	if err := n.TryStart(); err != nil {
		w.Fatalf("start %s: %v", s.Name, err)
	}
	return n
}

// Place gives a peer its host without starting it.
func (w *World) Place(s Spec) *Node {
	n := &Node{Name: s.Name, w: w, spec: s}
	n.host = w.machines.host(n)
	w.nodes = append(w.nodes, n)
	return n
}

// StartMany starts n peers, p0 the seed of the others.
func (w *World) StartMany(n int) []*Node {
	w.Helper()
	out := make([]*Node, n)
	for i := range out {
		s := Spec{Name: fmt.Sprintf("p%d", i)}
		if i > 0 {
			s.Join = []string{out[0].Addr()}
		}
		out[i] = w.Start(s)
	}
	return out
}

// TryStart starts n with its spec and returns the error of the start.
func (n *Node) TryStart() error {
	client, err := n.host.start(n, n.spec)
	if err != nil {
		return err
	}
	n.client, n.up = client, true
	ctx, cancel := context.WithCancel(n.w.Context())
	n.follow = n.w.record.follow(ctx, cancel, n)
	return nil
}

// Restart starts n again after it has ended, with its spec changed by change.
func (n *Node) Restart(change func(*Spec)) {
	n.w.Helper()
	if change != nil {
		change(&n.spec)
	}
	if err := n.TryStart(); err != nil {
		n.w.Fatalf("restart %s: %v", n.Name, err)
	}
}

// Move gives n, which has ended, another host and address. Its data dir comes
// along.
func (n *Node) Move() { n.host = n.w.machines.host(n) }

// Addr is the gossip address, HOST:PORT.
func (n *Node) Addr() string { return n.host.addr() }

// Client asks n.
func (n *Node) Client() *api.Client { return n.client }

// Dial is how another program on n's host reaches the network.
func (n *Node) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.host.dial(ctx, network, addr)
}

// Log returns what n has logged.
func (n *Node) Log() string { return n.host.logs() }

// Kill is kill -9.
func (n *Node) Kill() { n.gone(n.host.kill) }

// PowerOff is a pulled plug.
func (n *Node) PowerOff() { n.gone(n.host.powerOff) }

// Stop is SIGTERM; it returns when the process has ended.
func (n *Node) Stop() {
	n.w.Helper()
	n.gone(func() {
		if err := n.host.stop(); err != nil {
			n.w.Errorf("stop %s: %v", n.Name, err)
		}
	})
}

// Leave asks n over HTTP to leave, and returns when the process has ended.
func (n *Node) Leave() {
	n.w.Helper()
	if err := n.client.Leave(n.w.Context()); err != nil {
		n.w.Fatalf("ask %s to leave: %v", n.Name, err)
	}
	n.gone(func() {
		if err := n.host.left(); err != nil {
			n.w.Errorf("leave of %s: %v", n.Name, err)
		}
	})
}

// Pause is SIGSTOP.
func (n *Node) Pause() { n.host.pause() }

// Resume is SIGCONT.
func (n *Node) Resume() { n.host.resume() }

func (n *Node) gone(end func()) {
	if !n.up {
		return
	}
	n.up = false
	end()
	n.follow()
	n.client.Close()
}

// Cut parts a from b, silently.
func (w *World) Cut(a, b []*Node) {
	w.machines.cut(a, b)
	w.machines.cut(b, a)
}

// CutOneWay loses what from sends to to.
func (w *World) CutOneWay(from, to []*Node) { w.machines.cut(from, to) }

// Isolate pulls n's cable.
func (w *World) Isolate(n *Node) { w.machines.isolate(n) }

// Heal undoes all cuts.
func (w *World) Heal() { w.machines.heal() }

// Sleep lets time pass.
func (w *World) Sleep(d time.Duration) { time.Sleep(d) }

// Context is done when the scenario has ended.
func (w *World) Context() context.Context { return w.TB.Context() }

// end stops what still runs.
func (w *World) end() {
	if w.Failed() {
		w.report()
	}
	for _, n := range slices.Backward(w.nodes) {
		n.Kill()
	}
	w.record.wait()
}

// report prints what happened.
func (w *World) report() {
	w.Log(w.record.String())
	for _, n := range w.nodes {
		if l := n.Log(); l != "" {
			w.Logf("log of %s:\n%s", n.Name, l)
		}
	}
}

// Live returns the peers of the world that have been started and not ended.
func (w *World) Live() []*Node {
	var out []*Node
	for _, n := range w.nodes {
		if n.up {
			out = append(out, n)
		}
	}
	return out
}

// Without returns nodes without some.
func Without(nodes []*Node, some ...*Node) []*Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *Node) bool { return slices.Contains(some, n) })
}

// Names returns the names of nodes.
func Names(nodes []*Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return out
}
