//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if part := os.Getenv(insideEnv); part != "" {
		os.Exit(inside(part))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "gossip:", err)
		}
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	rows     []string
	products []string
	n, slow  int
	md, list bool
	peer     string
	at       string
	keep     string
	save     string
	job      job // what all jobs have in common
	encrypt  bool
	atMost   time.Duration
}

func parse(args []string) (settings, error) {
	var s settings
	var ids, products string
	f := flag.NewFlagSet("gossip", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), "gossip measures peer beside serf, ten real agents each, and prints a table.\n\n"+
			"usage: go run ./gossip [FLAGS]        in testcluster/versus; needs root\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&ids, "rows", "", "measure only these `ROWS`, comma-separated (see -list); the usual run leaves out the churn")
	f.StringVar(&products, "products", "ours,serf", "measure only these `PRODUCTS`, comma-separated")
	f.BoolVar(&s.list, "list", false, "list the rows and end")
	f.IntVar(&s.n, "n", 5, "take `N` figures of each row that is quick to measure")
	f.IntVar(&s.slow, "slow", 3, "take `N` figures of each row that needs a cluster, and minutes, of its own")
	f.BoolVar(&s.md, "md", false, "print Markdown")
	f.StringVar(&s.peer, "peer", "", "measure the peer binary `FILE` instead of building one")
	f.StringVar(&s.at, "at", "", "measure the peer of `COMMIT` instead of the tree as it is")
	f.BoolVar(&s.encrypt, "encrypt", false, "give both a gossip key")
	f.BoolVar(&s.job.Debug, "debug", false, "have agents log everything")
	f.IntVar(&s.job.Nice, "nice", 0, "run everything at niceness `N`; -10 keeps out what else the machine does, and needs root")
	f.DurationVar(&s.job.Idle, "idle", time.Minute, "watch idle clusters for `D`")
	f.DurationVar(&s.job.Down, "down", time.Minute, "keep the seed down for `D`")
	f.DurationVar(&s.job.Cut, "cut", 30*time.Second, "keep a partition for `D`")
	f.DurationVar(&s.job.Churn, "churn", 10*time.Minute, "make trouble for `D`")
	f.DurationVar(&s.atMost, "limit", 3*time.Hour, "end after `D`, with what there is by then")
	f.StringVar(&s.keep, "keep", "", "keep the agents' logs below `DIR`")
	f.StringVar(&s.save, "save", "", "append the figures to `FILE` and show those that are in it already, so that a run can be done in parts")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q: rows are named with -rows", f.Arg(0))
	}
	var errs []error
	if ids != "" {
		s.rows = strings.Split(ids, ",")
	}
	for _, id := range s.rows {
		if _, ok := rowOf(id); !ok {
			errs = append(errs, fmt.Errorf("no row %q: see -list", id))
		}
	}
	s.products = strings.Split(products, ",")
	for _, p := range s.products {
		if p != "ours" && p != "serf" {
			errs = append(errs, fmt.Errorf("no product %q: there are ours and serf", p))
		}
	}
	if s.peer != "" && s.at != "" {
		errs = append(errs, errors.New("-peer and -at exclude each other"))
	}
	if s.n < 1 || s.slow < 1 {
		errs = append(errs, errors.New("-n and -slow must be 1 or more"))
	}
	return s, errors.Join(errs...)
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if s.list {
		for _, r := range rows {
			fmt.Printf("%-17s %s\n", r.id, r.title)
		}
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.atMost, fmt.Errorf("stopped after %v, see -limit", s.atMost))
	defer cancel()
	dir, err := os.MkdirTemp("", "versus-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := sane(ctx, filepath.Join(dir, "sane")); err != nil {
		return err
	}
	if s.encrypt {
		s.job.Key = newKey()
	}
	say("building")
	b, err := build(ctx, dir, s.peer, s.at)
	if err != nil {
		return err
	}
	t := newTable(b)
	if s.save != "" {
		if err := t.load(s.save); err != nil {
			return err
		}
	}
	err = measure(ctx, s, b, dir, t)
	t.print(os.Stdout, s.rows, s.md)
	return err
}

// measure does all jobs, product by product in turn. A job that fails is told
// of, and the others are done.
func measure(ctx context.Context, s settings, b binaries, dir string, t *table) error {
	if s.keep != "" {
		dir = s.keep
	}
	failed := 0
	for _, sc := range scenarios {
		if !sc.wanted(s.rows) {
			continue
		}
		want := s.n
		switch {
		case sc.extra:
			want = 1
		case sc.perRun == 1:
			want = s.slow
		}
		for done := 0; done < want && ctx.Err() == nil; done += sc.perRun {
			products := slices.Clone(s.products)
			if sc.floor {
				products = append(products, "bare")
			}
			var jobs []job
			for _, p := range products {
				j := s.job
				j.Scenario, j.Product, j.Binary = sc.name, p, b.of(p)
				j.Rounds = min(sc.perRun, want-done)
				j.Limit = sc.limit + j.Idle + j.Down + j.Cut
				if sc.extra {
					j.Limit += 2 * j.Churn
				}
				j.Dir = filepath.Join(dir, fmt.Sprintf("%s-%s-%d", sc.name, p, done))
				jobs = append(jobs, j)
			}
			failed += do(ctx, s, jobs, sc.floor, t)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed > 0 {
		return fmt.Errorf("%d workers failed, see above", failed)
	}
	return nil
}

// do does jobs, one after the other or all at once, and returns how many failed.
func do(ctx context.Context, s settings, jobs []job, together bool, t *table) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for _, j := range jobs {
		one := func() {
			begun := time.Now()
			samples, err := runWorker(ctx, j, func(note string) { say("%s, %s: %s", j.Scenario, j.Product, note) })
			mu.Lock()
			defer mu.Unlock()
			t.add(j.Product, samples)
			if s.save != "" {
				err = errors.Join(err, t.save(s.save, j.Product, samples))
			}
			say("%s, %s: %s (%v, load %.1f)", j.Scenario, j.Product, brief(samples), time.Since(begun).Round(time.Second), load())
			if err != nil {
				failed++
				if ctx.Err() == nil {
					say("%v", err)
				}
			}
			if s.keep == "" {
				_ = os.RemoveAll(j.Dir) // the directory above goes in any case
			}
		}
		wg.Go(one)
		if !together {
			wg.Wait()
		}
	}
	wg.Wait()
	return failed
}

// brief writes samples in one line.
func brief(samples []sample) string {
	var out []string
	for _, r := range rows {
		var f figures
		for _, s := range samples {
			if s.Row == r.id {
				f = append(f, s)
			}
		}
		if len(f) > 0 {
			out = append(out, r.id+" "+f.cell(r.unit))
		}
	}
	return strings.Join(out, " · ")
}

// say tells the person who waits how far it has come.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// load is the machine's load average of the last minute, 0 where it is unknown.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var one float64
	_, _ = fmt.Sscan(string(b), &one)
	return one
}

func (b binaries) of(product string) string {
	switch product {
	case "serf":
		return b.serf
	case "bare":
		return b.bare
	}
	return b.ours
}

func cores() int { return runtime.NumCPU() }
