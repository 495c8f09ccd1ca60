//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idle watches a cluster of ten in which nothing happens, and reads nothing of
// it meanwhile.
func idle(l *lab) error {
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	// The repeated exchanges that follow a start are over by then.
	if err := l.wait(10 * time.Second); err != nil {
		return err
	}
	for _, a := range agents {
		a.viewer.close()
	}
	if err := l.wait(time.Second); err != nil {
		return err
	}
	before, err := usageOf(agents)
	if err != nil {
		return err
	}
	if err := l.wait(l.job.Idle); err != nil {
		return err
	}
	after, err := usageOf(agents)
	if err != nil {
		return err
	}
	passed := after.at.Sub(before.at).Seconds()
	n := float64(len(agents))
	l.report(sample{Row: "rss", Value: after.rss / n / (1 << 20)})
	l.report(sample{Row: "cpu", Value: (after.cpu - before.cpu).Seconds() * 1000 / passed / n})
	l.report(sample{Row: "bytes", Value: (after.bytes - before.bytes) / passed / n})
	l.note("%.1f packets/s a node", (after.packets-before.packets)/passed/n)
	return nil
}

// usage is what agents have used so far, together.
type usage struct {
	at             time.Time
	cpu            time.Duration
	rss            float64 // bytes
	bytes, packets float64 // sent over the loopback interface
}

func usageOf(agents []*agent) (usage, error) {
	u := usage{at: time.Now()}
	for _, a := range agents {
		cpu, err := a.cpu()
		if err != nil {
			return u, err
		}
		rss, err := a.rss()
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		u.rss += float64(rss)
	}
	var err error
	u.bytes, u.packets, err = sent("lo")
	return u, err
}

// sent returns what an interface has sent, headers included.
func sent(link string) (bytes, packets float64, err error) {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0, 0, fmt.Errorf("read traffic: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); strings.TrimSpace(name) == link && len(f) >= 10 {
			if bytes, err = strconv.ParseFloat(f[8], 64); err != nil {
				return 0, 0, fmt.Errorf("read traffic: %w", err)
			}
			packets, err = strconv.ParseFloat(f[9], 64)
			return bytes, packets, err
		}
	}
	return 0, 0, fmt.Errorf("read traffic: no interface %s", link)
}

// churn has half of ten agents killed, restarted, stopped, joining and leaving,
// and looks at what that leaves behind in the other half.
func churn(l *lab) error {
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	steady, others := agents[:5], agents[5:]
	// The first minute warms up: heaps grow to their working size.
	warm := min(time.Minute, l.job.Churn/4)
	before, others, err := l.stir(steady, others, warm)
	if err != nil {
		return err
	}
	after := before
	for end := time.Now().Add(l.job.Churn); time.Now().Before(end); {
		if after, others, err = l.stir(steady, others, min(time.Minute, time.Until(end))); err != nil {
			return err
		}
		l.note("steady half: %s", after)
	}
	l.report(sample{Row: "churn-rss", Value: after.rss - before.rss})
	l.report(sample{Row: "churn-fds", Value: after.fds - before.fds})
	if l.product.name() == "ours" {
		l.report(sample{Row: "churn-goroutines", Value: after.goroutines - before.goroutines})
	}
	return nil
}

// size is what one agent of several holds, on average.
type size struct{ rss, fds, goroutines float64 }

func (s size) String() string {
	return fmt.Sprintf("RSS %.1f MB, %.1f files, %.1f goroutines", s.rss, s.fds, s.goroutines)
}

// stir makes trouble among others for d, lets the cluster settle, and returns
// the size of the steady ones and who the others are now.
func (l *lab) stir(steady, others []*agent, d time.Duration) (size, []*agent, error) {
	number := len(l.agents) // of the next agent; no name comes twice
	for end := time.Now().Add(d); time.Now().Before(end); number++ {
		i := rand.N(len(others))
		a := others[i]
		var err error
		switch rand.N(4) {
		case 0:
			kill(a)
			if err = l.wait(rand.N(2 * time.Second)); err == nil {
				others[i], err = l.restart(a)
			}
		case 1:
			a.signal(syscall.SIGSTOP)
			err = l.wait(rand.N(4 * time.Second))
			a.signal(syscall.SIGCONT)
		case 2:
			a.signal(syscall.SIGINT)
			if err = a.gone(l.ctx); err == nil {
				others[i], err = l.restart(a)
			}
		case 3: // a name that nobody has heard of, in the place of one that goes
			a.signal(syscall.SIGINT)
			if err = a.gone(l.ctx); err == nil {
				others[i], err = l.start(spec{Name: agentName(number), Host: a.Host, Seed: steady[0].Host})
			}
		}
		if err != nil {
			return size{}, nil, err
		}
		if err := l.wait(rand.N(500 * time.Millisecond)); err != nil {
			return size{}, nil, err
		}
	}
	if err := l.settle(append(without(steady), others...)); err != nil {
		return size{}, nil, err
	}
	for _, a := range steady {
		a.viewer.close()
	}
	if err := l.wait(5 * time.Second); err != nil {
		return size{}, nil, err
	}
	s, err := l.sizeOf(steady)
	return s, others, err
}

func (l *lab) sizeOf(agents []*agent) (size, error) {
	var s size
	n := float64(len(agents))
	for _, a := range agents {
		rss, err := a.rss()
		if err != nil {
			return s, err
		}
		s.rss += float64(rss) / (1 << 20) / n
		files, err := os.ReadDir("/proc/" + strconv.Itoa(a.pid()) + "/fd")
		if err != nil {
			return s, fmt.Errorf("read open files: %w", err)
		}
		s.fds += float64(len(files)) / n
		if l.product.name() == "ours" {
			g, err := goroutines(l.ctx, a)
			if err != nil {
				return s, err
			}
			s.goroutines += g / n
		}
	}
	return s, nil
}

// goroutines reads how many an agent of ours runs.
func goroutines(ctx context.Context, a *agent) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(a.Host, apiPort)+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "go_goroutines" {
			return strconv.ParseFloat(string(f[1]), 64)
		}
	}
	return 0, fmt.Errorf("read metrics of %s: no go_goroutines", a.Name)
}
