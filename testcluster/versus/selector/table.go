package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// table is one of the three.
type table struct {
	head  []string
	lines [][]string
}

// print writes t, unless nothing is in it.
func (s settings) print(w io.Writer, t table) {
	if len(t.lines) == 0 {
		return
	}
	fmt.Fprintln(w)
	lines := append([][]string{t.head}, t.lines...)
	if s.md {
		for i, l := range lines {
			fmt.Fprintf(w, "| %s |\n", strings.Join(l, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(l)))
			}
		}
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, l := range lines {
		fmt.Fprintln(tw, strings.ReplaceAll(strings.Join(l, "\t"), "**", ""))
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

// ns writes nanoseconds for a person.
func ns(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.1f ns", v)
	case v < 10_000:
		return fmt.Sprintf("%.0f ns", v)
	case v < 10e6:
		return fmt.Sprintf("%.0f µs", v/1e3)
	}
	return fmt.Sprintf("%.0f ms", v/1e6)
}

// strip leaves out the unit of what ns wrote, where the reader can tell.
func strip(s string) string {
	return strings.TrimSuffix(s, " ns")
}

// median of v; the upper of two.
func median(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

// verdict holds figures against a bar: the median must be within it.
func verdict(v []float64, bar float64) string {
	switch {
	case slices.Max(v) <= bar:
		return "pass"
	case median(v) <= bar:
		return "pass, not all"
	}
	return "MISS"
}

// version is that of a module in this program.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return "unknown"
}

// revision is the commit of ours, if this runs in a repository.
func revision() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=8").Output()
	if err != nil {
		return "unknown revision"
	}
	return strings.TrimSpace(string(out))
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
