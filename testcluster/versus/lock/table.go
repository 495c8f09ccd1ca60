//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// table gathers the figures.
type table struct {
	of    map[string]map[string]figures // by row and product
	redis string                        // version of redis-server
	ping  []float64                     // p50 of each round, µs
	loads []float64
}

func newTable() *table { return &table{of: map[string]map[string]figures{}} }

func (t *table) add(row, product string, f figure) {
	if t.of[row] == nil {
		t.of[row] = map[string]figures{}
	}
	t.of[row][product] = append(t.of[row][product], f)
}

// footnotes say how each is used.
const footnotes = `ours: Acquire, Release, ttl 15 s. redsync: Lock, Unlock, expiry 8 s, retry after 50..250 ms. redislock: Obtain, Release,
ttl 15 s, LinearBackoff(100 ms). rueidislock: WithContext, KeyMajority 1, NoLoopTracking, validity 5 s, TryNextAfter 1 s (its
default where many wait, and far). raw: SET NX PX and compare-and-delete over go-redis, tries each 1 ms while it waits. In the rows of cut-off
clients the time to live is 3 s (waiters) and 2 s (holders).`

// print writes the table: the rows that have figures.
func (t *table) print(w io.Writer, md bool) {
	head := []string{""}
	for _, p := range products {
		head = append(head, strings.TrimSpace(p.name+" "+version(p)))
	}
	lines := [][]string{append(head, "ours ÷ raw", "our bar", "")}
	for _, r := range rows {
		f := t.of[r.id]
		if len(f) == 0 {
			continue
		}
		line := []string{r.title}
		for _, p := range products {
			line = append(line, f[p.name].cell(r.unit))
		}
		lines = append(lines, append(line, ratioText(r, f[ours], f[raw]), r.barText(), r.verdict(f[ours], f[raw])))
	}
	if len(lines) == 1 {
		return
	}
	slices.Sort(t.loads)
	slices.Sort(t.ping)
	fmt.Fprintf(w, "redis-server %s over loopback, PING p50 %.0f µs; median (least..most) of the rounds; %d cores, load average %.1f..%.1f\n\n",
		t.redis, median(t.ping), runtime.NumCPU(), t.loads[0], t.loads[len(t.loads)-1])
	if md {
		markdown(w, lines)
	} else {
		text(w, lines)
	}
	fmt.Fprintf(w, "\n%s\n", footnotes)
}

func markdown(w io.Writer, lines [][]string) {
	for i, l := range lines {
		fmt.Fprintf(w, "| %s |\n", strings.Join(l, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(l)))
		}
	}
}

func text(w io.Writer, lines [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, l := range lines {
		fmt.Fprintln(tw, strings.Join(l, "\t"))
		if i == 0 {
			var rule []string
			for _, c := range l {
				rule = append(rule, strings.Repeat("-", utf8.RuneCountInString(c)))
			}
			fmt.Fprintln(tw, strings.Join(rule, "\t"))
		}
	}
	tw.Flush()
}

// version is that of p's module in this program; of ours the commit, if this
// runs in a repository.
func version(p product) string {
	if p.name == ours {
		out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=8").Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == p.module {
			v := strings.TrimPrefix(m.Version, "v")
			if p.name == raw {
				return "(go-redis " + v + ")"
			}
			return v
		}
	}
	return ""
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
