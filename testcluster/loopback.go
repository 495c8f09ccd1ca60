package testcluster

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// Loopback runs a scenario in real time in this process: real agents on ports
// of 127.0.0.1 that are free, and a real redis-server if there is one. Its
// hosts cannot lose power, be stopped or be cut off.
func Loopback(t *testing.T, scenario func(*World)) {
	t.Helper()
	w := &World{TB: t, Name: "loopback", machines: &loopback{t: t, dir: t.TempDir()}}
	t.Cleanup(w.end)
	scenario(w)
}

var errNotHere = errors.New("this world cannot do that: its peers are in one process")

type loopback struct {
	t     *testing.T
	dir   string // removed after all agents have ended
	hosts int
}

func (l *loopback) host(n *Node) host {
	h := &loopbackHost{t: l.t, port: FreePort()}
	if old, ok := n.host.(*loopbackHost); ok {
		h.dir, h.log = old.dir, old.log
	} else {
		l.hosts++
		h.dir, h.log = filepath.Join(l.dir, strconv.Itoa(l.hosts)), new(logBuffer)
	}
	return h
}

func (l *loopback) redis() Redis         { return StartAnyRedis(l.t) }
func (l *loopback) cut([]*Node, []*Node) { l.t.Fatal(errNotHere) }
func (l *loopback) isolate(*Node)        { l.t.Fatal(errNotHere) }
func (l *loopback) heal()                { l.t.Fatal(errNotHere) }

// FreePort returns a port of 127.0.0.1 that is free for UDP and TCP now. It lies
// below those that kernels give to whoever asks for any (the ephemeral ones), so
// that it is still free when it is wanted. A peer that comes back needs the port
// it had, so that the kernel cannot choose each time. It is not given out twice:
// who has one may not use it yet, or for a while.
func FreePort() string {
	for range 1000 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if _, given := ports.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		l.Close()
		if err == nil {
			p.Close()
			return port
		}
	}
	panic("no port of 127.0.0.1 is free for UDP and TCP")
}

// ports are those that FreePort has given out or found taken.
var ports sync.Map

// OnFreedPort calls f, which takes a port that was given up a moment ago, until it
// gets it, for up to five seconds: a process that is being started meanwhile,
// anywhere in this one, has a copy of the old socket until it runs its own program.
func OnFreedPort[T any](f func() (T, error)) (T, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		v, err := f()
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return v, err
		}
	}
}

// loopbackHost is a gossip port of 127.0.0.1 with an agent on it.
type loopbackHost struct {
	t     *testing.T
	port  string
	dir   string
	log   *logBuffer
	agent *agent.Agent
}

func (h *loopbackHost) addr() string { return "127.0.0.1:" + h.port }

func (h *loopbackHost) start(n *Node, s Spec) (*api.Client, error) {
	cfg := s.config(n.w)
	cfg.Bind = cmp.Or(s.Bind, h.addr())
	cfg.HTTP.Addr = "127.0.0.1:0"
	cfg.DataDir = h.dir
	cfg.Seams.Logger = h.log.logger(s.Name)
	if s.FS != nil {
		cfg.Seams.FS = s.FS
	}
	if s.Config != nil {
		s.Config(&cfg)
	}
	a, err := OnFreedPort(func() (*agent.Agent, error) { return agent.Start(cfg) })
	if err != nil {
		return nil, err
	}
	h.agent = a
	return api.NewClient(a.HTTPAddr())
}

func (h *loopbackHost) stop() error { return h.agent.Stop(context.Background()) }
func (h *loopbackHost) left() error { <-h.agent.Done(); return nil }
func (h *loopbackHost) kill()       { h.agent.Kill() }
func (h *loopbackHost) powerOff()   { h.t.Fatal(errNotHere) }
func (h *loopbackHost) pause()      { h.t.Fatal(errNotHere) }
func (h *loopbackHost) resume()     { h.t.Fatal(errNotHere) }

func (h *loopbackHost) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (h *loopbackHost) logs() string { return h.log.String() }
