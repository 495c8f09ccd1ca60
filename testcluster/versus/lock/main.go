//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if job := os.Getenv(waiterEnv); job != "" {
		os.Exit(waiter(job))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "lock:", err)
		}
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	rows     []string
	products []product
	rounds   int
	slice    time.Duration
	idle     time.Duration
	md, list bool
}

func parse(args []string) (settings, error) {
	var s settings
	var ids, names string
	f := flag.NewFlagSet("lock", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), "lock measures the lock of peer beside others, on a redis-server of its own.\n\n"+
			"usage: go run ./lock [FLAGS]        in testcluster/versus\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&ids, "rows", "", "measure only these `ROWS`, comma-separated (see -list)")
	f.StringVar(&names, "products", "", "measure only these `PRODUCTS`, comma-separated (default all)")
	f.BoolVar(&s.list, "list", false, "list the rows and end")
	f.IntVar(&s.rounds, "n", 3, "take `N` figures of each row")
	f.DurationVar(&s.slice, "t", 2*time.Second, "measure each product for `D` a round, where a row takes a while")
	f.DurationVar(&s.idle, "idle", 10*time.Second, "watch idle waiters for `D`")
	f.BoolVar(&s.md, "md", false, "print Markdown")
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
	s.products = products
	if names != "" {
		s.products = nil
		for name := range strings.SplitSeq(names, ",") {
			p, ok := productOf(name)
			if !ok {
				errs = append(errs, fmt.Errorf("no product %q: there are ours, redsync, redislock, rueidislock and raw", name))
			}
			s.products = append(s.products, p)
		}
	}
	if s.rounds < 1 || s.slice <= 0 || s.idle <= 0 {
		errs = append(errs, errors.New("-n, -t and -idle must be more than nothing"))
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
			fmt.Printf("%-15s %s\n", r.id, r.title)
		}
		return nil
	}
	t := newTable()
	err = measure(ctx, s, t)
	t.print(os.Stdout, s.md)
	return err
}

// measure takes round after round; a scenario that fails is told of, and the
// others are done.
func measure(ctx context.Context, s settings, t *table) error {
	failed := 0
	for round := range s.rounds {
		for _, sc := range scenarios {
			if !sc.wanted(s.rows) || ctx.Err() != nil {
				continue
			}
			if err := sc.once(ctx, s, round, t); err != nil {
				failed++
				say("%s: %v", sc.name, err)
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed > 0 {
		return fmt.Errorf("%d measurements failed, see above", failed)
	}
	return nil
}

// scenario is what yields the figures of some rows.
type scenario struct {
	name  string
	rows  []string
	run   func(context.Context, *lab) error
	limit time.Duration
}

var scenarios = []scenario{
	{"pairs", []string{"pair-p50", "pair-p99", "pair-ctx"}, pairs, time.Minute},
	{"throughput", []string{"ops", "ops-ctx"}, throughput, 4 * time.Minute},
	{"contention", []string{"jain", "trips", "calls"}, contention, 4 * time.Minute},
	{"hand-over", []string{"hand-p50", "hand-p99", "hand-rate"}, handOver, 4 * time.Minute},
	{"idle", []string{"idle", "idle-conns", "idle-one", "idle-one-conns"}, idle, time.Minute},
	{"gone", []string{"gone"}, gone, 4 * time.Minute},
	{"away", []string{"away"}, away, 4 * time.Minute},
	{"told", []string{"told"}, told, 4 * time.Minute},
	{"far", []string{"far-first", "far"}, far, 4 * time.Minute},
	{"allocs", []string{"allocs", "allocs-ctx", "bytes"}, allocs, 4 * time.Minute},
}

// wanted says whether sc yields one of ids, or whether there are none.
func (sc scenario) wanted(ids []string) bool {
	return len(ids) == 0 || slices.ContainsFunc(sc.rows, func(id string) bool { return slices.Contains(ids, id) })
}

// once runs sc on a server of its own. Who waits for that server when the time
// is over, or at a ^C, hears of its end: it is killed.
func (sc scenario) once(ctx context.Context, s settings, round int, t *table) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, sc.limit+s.idle, fmt.Errorf("not done after %v", sc.limit+s.idle))
	defer cancel()
	srv, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer srv.stop()
	defer context.AfterFunc(ctx, func() { srv.cmd.Process.Kill() })()
	t.redis = srv.version(ctx)
	l := &lab{settings: s, srv: srv, round: round, table: t}
	if t.ping = append(t.ping, l.ping(ctx)); err != nil {
		return err
	}
	t.loads = append(t.loads, load())
	err = bounded(sc.limit+s.idle+10*time.Second, func() error { return sc.run(ctx, l) })
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	say("%s, round %d (%v, load %.1f)%s", sc.name, round+1, time.Since(begun).Round(time.Second), load(), l.brief())
	return err
}

// say tells the person who waits how far it has come.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
