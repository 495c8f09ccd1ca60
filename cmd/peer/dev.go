package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/peerhq/peer/agent"
	"github.com/urfave/cli/v2"
)

const maxDevNodes = 100

func devVerb() *verb {
	return &verb{
		name:  "dev",
		form:  "[--nodes N] [--http 127.0.0.1:7980] [--log-level LEVEL]",
		short: "a whole cluster in one process, to play with: nothing to install",
		long: `
Runs several agents in one process, on loopback, with an embedded Redis in memory:
a development cluster, to look at the page, to try the verbs and to write programs
against. Nothing is kept, nothing is replicated, and one process is one point of
failure: not for anything that matters. It refuses to listen beyond loopback.

The agents are called dev-1, dev-2 and so on. The first one answers at --http; the
other verbs find it there without any flag, and ` + "`peer lock`" + ` finds its Redis.
Ctrl-C ends it all.`,
		examples: `
			peer dev
			# and in another terminal
			peer members
			peer next
			peer lock demo -- sleep 5`,
		exits: []int{exitConfig, exitSignal},
		group: groupRun,
		flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Usage: "`N` agents (default 3)", Value: 3},
			&cli.StringFlag{Name: "http", Usage: "the first agent's endpoint at `HOST:PORT` (default 127.0.0.1:7980) [$PEER_HTTP_ADDR]"},
			&cli.StringFlag{Name: "log-level", Usage: "`LEVEL` trace, debug, info, warn or error (default warn)", Value: "warn"},
		},
		run: runDev,
	}
}

// devSettles is how long a new cluster may take to be whole before its user is
// told of it all the same.
const devSettles = 3 * time.Second

// settle waits until every agent sees all others and has its locks, so that the
// first thing to try works. It reports whether they do.
func (d *devCluster) settle(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		whole := !slices.ContainsFunc(d.agents, func(a *agent.Agent) bool {
			s := a.Status(context.Background())
			return s.Cluster.Alive != len(d.agents) || !s.Locks.Backend.Up
		})
		if whole || time.Now().After(end) {
			return whole
		}
	}
}

func runDev(inv *invocation) error {
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)

	nodes, addr, level := inv.cli.Int("nodes"), inv.flag("http"), inv.flag("log-level")
	if nodes < 1 || nodes > maxDevNodes {
		return inv.usage("--nodes %d: want 1 to %d", nodes, maxDevNodes)
	}
	if hclog.LevelFromString(level) == hclog.NoLevel {
		return inv.usage("--log-level %q: want trace, debug, info, warn or error", level)
	}
	if addr == "" {
		addr = inv.env("PEER_HTTP_ADDR")
	}
	if addr == "" {
		addr = agent.DefaultHTTPAddr
	}
	if err := checkLoopback(addr); err != nil {
		return withCode(exitConfig, err)
	}
	d, err := startDev(nodes, addr, inv.logger(agent.LogConfig{Level: level}))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("dev: %s is in use, probably by another `peer dev` or `peer agent`; stop that one, or choose another port: peer dev --http %s", addr, otherPort(addr))
	}
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	d.settle(devSettles)
	inv.welcome(d)
	left := 0
	gone := d.gone()
	for {
		select {
		case s := <-sigs:
			if s == syscall.SIGHUP {
				s = syscall.SIGTERM // the terminal is gone: so is its cluster
			}
			inv.note("ending")
			return inv.end(sigs, d)
		case <-gone:
			if left++; left == nodes {
				return inv.end(sigs, d)
			}
		}
	}
}

// checkLoopback refuses an address that others could reach: a development
// cluster is without any protection.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("dev: --http %q: want HOST:PORT, for example %s", addr, agent.DefaultHTTPAddr)
	}
	ip, err := netip.ParseAddr(host)
	if strings.EqualFold(host, "localhost") || (err == nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("dev: --http %s is beyond loopback, and a development cluster is without protection: use 127.0.0.1, or `peer agent` for a real one", addr)
}

// otherPort suggests the next port.
func otherPort(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	n, err := net.LookupPort("tcp", port)
	if err != nil || n >= 65535 {
		return net.JoinHostPort(host, "0")
	}
	return net.JoinHostPort(host, fmt.Sprint(n+1))
}

// devCluster is several agents and a Redis in this process.
type devCluster struct {
	redis  *miniredis.Miniredis
	agents []*agent.Agent
}

// startDev starts nodes agents, the first with its endpoint at addr, or nothing.
func startDev(nodes int, addr string, logger hclog.Logger) (*devCluster, error) {
	d := &devCluster{redis: miniredis.NewMiniRedis()}
	d.redis.ClockTTL(true) // leases run out as time goes by
	if err := d.redis.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded redis: %w", err)
	}
	version := readBuild().Version
	for i := range nodes {
		cfg := agent.Config{
			Name:    fmt.Sprintf("dev-%d", i+1),
			Bind:    "127.0.0.1:0",
			HTTP:    agent.HTTPConfig{Addr: "127.0.0.1:0"},
			Cluster: "peer-dev",
			Redis:   agent.RedisConfig{URL: "redis://" + d.redis.Addr()},
			Mode:    agent.ModeDev,
			Version: version,
		}
		cfg.Seams.Logger = logger.Named(cfg.Name)
		if i == 0 {
			cfg.HTTP.Addr = addr
		} else {
			cfg.Join = []string{d.agents[0].GossipAddr()}
		}
		a, err := agent.Start(cfg)
		if err != nil {
			_ = d.Stop(context.Background())
			return nil, err
		}
		d.agents = append(d.agents, a)
	}
	return d, nil
}

// gone delivers one value for every agent that somebody told to leave.
func (d *devCluster) gone() <-chan struct{} {
	out := make(chan struct{}, len(d.agents))
	for _, a := range d.agents {
		go func() { <-a.Done(); out <- struct{}{} }() // ends with the process
	}
	return out
}

// devGoodbye bounds the goodbyes of a cluster that ends as a whole: nobody is
// left to hear them.
const devGoodbye = time.Second

// Stop ends all agents at once, and then the Redis.
func (d *devCluster) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, devGoodbye)
	defer cancel()
	var wg sync.WaitGroup
	for _, a := range d.agents {
		wg.Go(func() { _ = a.Stop(ctx) })
	}
	wg.Wait()
	d.redis.Close()
	return nil
}

// welcome says what runs, and what to try.
func (inv *invocation) welcome(d *devCluster) {
	addr := d.agents[0].HTTPAddr()
	flag := ""
	if addr != agent.DefaultHTTPAddr && inv.env("PEER_HTTP_ADDR") != addr {
		flag = " --addr " + addr
	}
	me := "peer"
	if exe, err := os.Executable(); err == nil {
		me = callMe(exe)
	}
	w := inv.stdout
	fmt.Fprintf(w, "DEVELOPMENT CLUSTER: %d peers in one process, with an embedded Redis in memory.\n", len(d.agents))
	fmt.Fprintf(w, "Nothing is kept and nothing is protected: for trying peer, not for work.\n\n")
	fmt.Fprintf(w, "  page   http://%s/\n", addr)
	fmt.Fprintf(w, "  redis  redis://%s\n\n", d.redis.Addr())
	fmt.Fprintf(w, "Try in another terminal:\n\n")
	fmt.Fprintf(w, "  %s members%s\n  %s next%s\n  %s lock%s demo -- sleep 5\n\n", me, flag, me, flag, me, flag)
	fmt.Fprintf(w, "Ctrl-C ends it.\n")
}

// callMe is how the program in the file exe is called, so that what we print
// can be typed.
func callMe(exe string) string {
	if strings.Contains(exe, "go-build") { // `go run` builds into its cache
		return "go run ./cmd/peer"
	}
	if found, err := exec.LookPath("peer"); err == nil && sameFile(found, exe) {
		return "peer"
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, exe); err == nil && !strings.HasPrefix(rel, "../..") {
			if !strings.HasPrefix(rel, ".") {
				rel = "./" + rel
			}
			return rel
		}
	}
	return exe
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
