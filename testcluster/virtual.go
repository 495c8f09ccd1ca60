package testcluster

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// Wire is the link between any two hosts of the virtual world, as in a data
// centre.
var Wire = Link{Latency: 200 * time.Microsecond, Jitter: 50 * time.Microsecond}

// Virtual runs a scenario in virtual time: real agents in a bubble, each on a
// host of its own on a simulated network. Hours pass in seconds, and a time
// that is measured is exact.
func Virtual(t *testing.T, scenario func(*World)) {
	t.Helper()
	Bubble(t, func(t *testing.T) {
		v := &virtual{t: t, net: NewNet(1, Wire)}
		w := &World{TB: t, Name: "virtual", machines: v}
		// memberlist's probes and go-redis's dials end on their own some time
		// after their owners; the bubble wants to see them go.
		t.Cleanup(func() { time.Sleep(2 * time.Minute) })
		t.Cleanup(w.end)
		scenario(w)
	})
}

type virtual struct {
	t     testing.TB
	net   *Net
	hosts int
	lossy [][2]*Host // from and to
	names nameServer
}

// Net is the simulated network, nil in other worlds.
func (w *World) Net() *Net {
	if v, ok := w.machines.(*virtual); ok {
		return v.net
	}
	return nil
}

// Host is n's simulated host, nil in other worlds.
func (n *Node) Host() *Host {
	if h, ok := n.host.(*virtualHost); ok {
		return h.Host
	}
	return nil
}

// Intruder is a simulated host that runs no peer.
func (w *World) Intruder() *Host { return w.Net().Host("10.66.66.66") }

func (v *virtual) host(n *Node) host {
	v.hosts++
	h := &virtualHost{Host: v.net.Host(fmt.Sprintf("10.0.%d.%d", v.hosts/250, 1+v.hosts%250))}
	h.files = n.spec.FS
	if old, ok := n.host.(*virtualHost); ok {
		h.files, h.log = old.files, old.log
	}
	if h.files == nil {
		h.files = new(MemFS)
	}
	if h.log == nil {
		h.log = new(logBuffer)
	}
	return h
}

func (v *virtual) redis() Redis { return StartEmbedded(v.t, v.net.Host("10.1.0.1")) }

func (v *virtual) cut(from, to []*Node) { v.net.CutOneWay(hostsOf(from), hostsOf(to)) }
func (v *virtual) isolate(n *Node)      { v.net.Isolate(n.Host()) }

func (v *virtual) heal() {
	v.net.Heal()
	for _, l := range v.lossy {
		v.net.SetLink(l[0], l[1], Wire)
	}
	v.lossy = nil
}

func (v *virtual) lose(from, to []*Node, share float64) {
	link := Wire
	link.Loss = share
	for _, f := range hostsOf(from) {
		for _, t := range hostsOf(to) {
			v.net.SetLink(f, t, link)
			v.lossy = append(v.lossy, [2]*Host{f, t})
		}
	}
}

func hostsOf(nodes []*Node) []*Host {
	var out []*Host
	for _, n := range nodes {
		out = append(out, n.Host())
	}
	return out
}

// virtualHost is a simulated host with an agent on it.
type virtualHost struct {
	*Host
	files *MemFS
	log   *logBuffer
	agent *agent.Agent
}

const virtualHTTP = "127.0.0.1:7980"

func (h *virtualHost) addr() string { return h.Host.String() + ":7946" }

func (h *virtualHost) start(n *Node, s Spec) (*api.Client, error) {
	h.Restart()
	cfg := s.config(n.w)
	cfg.Bind = cmp.Or(s.Bind, h.addr())
	cfg.Insecure = true // nobody listens in
	cfg.HTTP.Addr = virtualHTTP
	cfg.DataDir = "/var/lib/peer"
	cfg.Seams.Network = h.Host
	cfg.Seams.Listen = h.ListenContext
	cfg.Seams.RedisDial = h.DialContext
	cfg.Seams.CheckDial = h.DialContext
	cfg.Seams.FS = h.files
	cfg.Seams.Resolver = &n.w.machines.(*virtual).names
	cfg.Seams.Logger = h.log.logger(s.Name)
	if s.Config != nil {
		s.Config(&cfg)
	}
	a, err := agent.Start(cfg)
	if err != nil {
		h.Crash()
		return nil, err
	}
	h.agent = a
	return api.NewClient(virtualHTTP, api.WithDialer(h.DialContext))
}

// config is what all in-process worlds have in common.
func (s Spec) config(w *World) agent.Config {
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Join, cfg.Tags, cfg.Version = s.Name, s.Join, s.Tags, "test"
	cfg.Advertise = s.Advertise
	if s.Redis {
		cfg.Redis.URL = "redis://" + w.StartRedis().Addr()
	}
	if s.ClockOffset != 0 {
		cfg.Seams.Now = func() time.Time { return time.Now().Add(s.ClockOffset) }
	}
	return cfg
}

func (h *virtualHost) stop() error {
	err := h.agent.Stop(context.Background())
	h.Crash() // the process is gone, and with it whatever it had open
	return err
}

func (h *virtualHost) left() error {
	<-h.agent.Done()
	h.Crash()
	return nil
}

func (h *virtualHost) kill()     { h.Crash(); h.agent.Kill() }
func (h *virtualHost) powerOff() { h.PowerOff(); h.agent.Kill() }
func (h *virtualHost) pause()    { h.Pause() }
func (h *virtualHost) resume()   { h.Resume() }

func (h *virtualHost) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.DialContext(ctx, network, addr)
}

func (h *virtualHost) logs() string { return h.log.String() }

// logBuffer keeps the last lines that one peer has logged.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBuffer) logger(name string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Output: l, Level: hclog.Info, TimeFormat: "15:04:05.000", TimeFn: time.Now})
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 500 {
		l.lines = append(l.lines[:0], l.lines[100:]...)
	}
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

var _ io.Writer = (*logBuffer)(nil)
