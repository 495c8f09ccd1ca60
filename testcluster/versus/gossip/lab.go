//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// job is what one worker does: one scenario with one product, in namespaces of
// its own.
type job struct {
	Scenario string
	Product  string
	Binary   string
	Dir      string // for logs and data; the caller's to delete
	Key      string
	Debug    bool
	Nice     int // added to the priority number of all that runs
	Rounds   int
	Idle     time.Duration // how long an idle cluster is watched
	Down     time.Duration // how long the seed is down
	Cut      time.Duration // how long a partition lasts
	Churn    time.Duration
	Limit    time.Duration // of the whole job
}

// lab is where a scenario runs, and what it reports to.
type lab struct {
	ctx     context.Context
	job     job
	product product
	hosts   map[string]*host // by address; none where loopback will do

	mu     sync.Mutex
	agents []*agent // all that were started
	out    *json.Encoder
}

// sample is one figure of one row.
type sample struct {
	Row   string
	Value float64 // in the row's unit
	Never bool    // it did not happen within Value
	Note  string  `json:",omitempty"` // a line of its own: Row is empty then
}

func newLab(ctx context.Context, j job, out io.Writer) (*lab, error) {
	l := &lab{ctx: ctx, job: j, hosts: map[string]*host{}, out: json.NewEncoder(out)}
	switch j.Product {
	case "ours":
		l.product = peerAgent{j.Binary, j.Dir}
	case "serf":
		l.product = serfAgent{j.Binary, j.Dir}
	case "bare":
		l.product = bareAgent{j.Binary}
	default:
		return nil, fmt.Errorf("no product %q", j.Product)
	}
	return l, nil
}

// report hands one sample to the table.
func (l *lab) report(s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Encode(s); err != nil {
		panic(fmt.Errorf("report: %w", err)) // whoever asked is gone
	}
}

// took reports how long something took, in milliseconds.
func (l *lab) took(row string, d time.Duration) {
	l.report(sample{Row: row, Value: float64(d) / float64(time.Millisecond)})
}

// reached reports when something held everywhere, or that it never did.
func (l *lab) reached(row string, r reached, limit time.Duration) {
	if r.ok {
		l.took(row, r.all)
		return
	}
	l.report(sample{Row: row, Value: float64(limit) / float64(time.Millisecond), Never: true})
}

// note reports a line for the person who watches.
func (l *lab) note(format string, args ...any) {
	l.report(sample{Note: fmt.Sprintf(format, args...)})
}

// wait passes d, or ends early with the job.
func (l *lab) wait(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// address of agent number i; of its second home when moved.
func address(i int, moved bool) string {
	if moved {
		return fmt.Sprintf("127.0.2.%d", i+1)
	}
	return fmt.Sprintf("127.0.1.%d", i+1)
}

func agentName(i int) string { return fmt.Sprintf("n%02d", i+1) }

// whole starts n agents, the first of them the seed of the others, and waits
// until everybody sees everybody.
func (l *lab) whole(n int, data bool) ([]*agent, error) {
	var specs []spec
	for i := range n {
		s := spec{Name: agentName(i), Host: address(i, false)}
		if i > 0 {
			s.Seed = address(0, false)
		}
		specs = append(specs, s)
	}
	return l.wholeOf(specs, data)
}

func (l *lab) wholeOf(specs []spec, data bool) ([]*agent, error) {
	var out []*agent
	for _, s := range specs {
		if data {
			s.Data = filepath.Join(l.job.Dir, s.Name)
			if err := os.MkdirAll(s.Data, 0o700); err != nil {
				return nil, fmt.Errorf("make data directory: %w", err)
			}
		}
		a, err := l.start(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if err := l.settle(out); err != nil {
		return nil, err
	}
	return out, nil
}

// settle waits until these are whole, and a little more: what follows must not
// be measured in the wake of a start.
func (l *lab) settle(agents []*agent) error {
	const limit = 90 * time.Second
	if r := l.until(time.Now(), limit, agents, allAlive(agents...)); !r.ok {
		for _, a := range agents {
			v, err := a.viewer.view(l.ctx, "", true)
			l.note("%s sees %v (err %v)", a.Name, v, err)
		}
		return fmt.Errorf("%d agents are not whole after %v: %d see everybody", len(agents), limit, r.holds)
	}
	return l.wait(time.Second)
}

// restart starts a once more, with the same settings.
func (l *lab) restart(a *agent) (*agent, error) { return l.start(a.spec) }

// kill ends agents at one instant, as kill -9 does, and returns when that was.
func kill(agents ...*agent) time.Time {
	at := time.Now()
	for _, a := range agents {
		a.signal(syscall.SIGKILL)
	}
	return at
}

// without returns agents without some of them.
func without(agents []*agent, some ...*agent) []*agent {
	return slices.DeleteFunc(slices.Clone(agents), func(a *agent) bool { return slices.Contains(some, a) })
}

// victims picks n of agents at random, never the first, who is the seed.
func victims(agents []*agent, n int) []*agent {
	rest := slices.Clone(agents[1:])
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return rest[:n]
}

// verdicts adds up what the logs of all agents say about failures.
func (l *lab) verdicts() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := 0
	logs := map[string]bool{} // an agent that was restarted goes on in its log
	for _, a := range l.agents {
		if logs[a.logFile] {
			continue
		}
		logs[a.logFile] = true
		n, err := a.verdicts()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
