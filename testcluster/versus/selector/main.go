package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "selector:", err)
		}
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	kinds  []string
	rounds int
	slice  time.Duration
	picks  int
	md     bool
	sizes  []int
}

func parse(args []string) (settings, error) {
	s := settings{sizes: []int{1000, 10_000}}
	var names string
	f := flag.NewFlagSet("selector", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), "selector measures package selector beside other balancers.\n\n"+
			"usage: go run ./selector [FLAGS]        in testcluster/versus\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&names, "rows", "", "measure only these `KINDS`, comma-separated, of "+strings.Join(kinds, ", "))
	f.IntVar(&s.rounds, "n", 5, "take `N` figures of each pick and update")
	f.DurationVar(&s.slice, "t", 100*time.Millisecond, "measure each for `D` a round")
	f.IntVar(&s.picks, "picks", 200_000, "watch `N` picks for the quality")
	f.BoolVar(&s.md, "md", false, "print Markdown")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q: rows are named with -rows", f.Arg(0))
	}
	var errs []error
	s.kinds = kinds
	if names != "" {
		s.kinds = strings.Split(names, ",")
	}
	for _, k := range s.kinds {
		if !slices.Contains(kinds, k) {
			errs = append(errs, fmt.Errorf("no rows of kind %q: there are %s", k, strings.Join(kinds, ", ")))
		}
	}
	if s.rounds < 1 || s.slice <= 0 || s.picks < 1 {
		errs = append(errs, errors.New("-n, -t and -picks must be more than nothing"))
	}
	return s, errors.Join(errs...)
}

// kinds of rows: those of picks, then what else there is.
var kinds = []string{"floor", "rr", "weighted", "two", "key", "update", "quality"}

func (s settings) wants(kind string) bool { return slices.Contains(s.kinds, kind) }

func run(args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	before := load()
	picks := measurePicks(s)
	updates := measureUpdates(s)
	churns := measureQuality(s)
	fmt.Printf("peer %s, grpc %s, go-kit %s, kratos %s, consistent %s, maglev %s; %d cores, load average %.1f..%.1f\n",
		revision(), version("google.golang.org/grpc"), version("github.com/go-kit/kit"), version("github.com/go-kratos/kratos/v2"),
		version("github.com/buraksezer/consistent"), version("github.com/kkdai/maglev"), runtime.NumCPU(), before, load())
	s.print(os.Stdout, picks)
	s.print(os.Stdout, updates)
	s.print(os.Stdout, churns)
	return nil
}

// names makes n of them.
func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, i)
	}
	return out
}

// uneven are shares from 1 to 4.
func uneven(p string) int { return 1 + int(p[len(p)-1]-'0')%4 }

// say tells the person who waits how far it has come.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
