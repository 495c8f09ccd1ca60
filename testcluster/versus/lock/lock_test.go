//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test program be the waiters that are killed.
func TestMain(m *testing.M) {
	if job := os.Getenv(waiterEnv); job != "" {
		os.Exit(waiter(job))
	}
	os.Exit(m.Run())
}

func of(values ...float64) figures {
	var f figures
	for _, v := range values {
		f = append(f, figure{value: v})
	}
	return f
}

func TestCells(t *testing.T) {
	for _, c := range []struct {
		f    figures
		u    unit
		want string
	}{
		{nil, micros, "–"},
		{of(61.4), micros, "61 µs"},
		{of(61.4, 50, 70), micros, "61 µs (50..70 µs)"},
		{of(9000, 20_000), micros, "14 ms (9000 µs..20 ms)"},
		{of(0.5, 7145), millis, "3573 ms (0.5..7145 ms)"},
		{of(2, 41.2), perSecond, "22/s (2.0..41/s)"},
		{of(2, 2.004), pieces, "2"},
		{of(0.9994), fraction, "0.999"},
		{figures{{never: "no signal"}}, millis, "no signal"},
		{figures{{never: "never in 4s"}, {value: 120}}, millis, "never in 4s in 1 of 2"},
	} {
		if got := c.f.cell(c.u); got != c.want {
			t.Errorf("cell of %v: got %q, want %q", c.f, got, c.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		id        string
		ours, raw figures
		want      string
	}{
		{"pair-p50", of(60, 62), of(52, 52), "pass"},
		{"pair-p50", of(60, 70, 61), of(52, 52, 52), "pass, not all"},
		{"pair-p50", of(70), of(52), "MISS"},
		{"pair-p50", of(70), nil, "–"},
		{"ops", of(30), of(20), "pass"},
		{"ops", of(29), of(20), "MISS"},
		{"jain", of(0.99), nil, "pass"},
		{"jain", of(0.98), nil, "MISS"},
		{"told", of(0.1), nil, "pass"},
		{"told", of(0), nil, "MISS"},
		{"told", figures{{never: "no signal"}}, nil, "MISS"},
		{"calls", of(2), nil, "–"},
	} {
		r, _ := rowOf(c.id)
		if got := r.verdict(c.ours, c.raw); got != c.want {
			t.Errorf("%s of %v over %v: got %q, want %q", c.id, c.ours, c.raw, got, c.want)
		}
	}
}

// Each row is yielded by one scenario, and scenarios yield rows only.
func TestRowsHaveScenarios(t *testing.T) {
	yielded := map[string]int{}
	for _, s := range scenarios {
		for _, id := range s.rows {
			yielded[id]++
			if _, ok := rowOf(id); !ok {
				t.Errorf("scenario %s yields %q, which is no row", s.name, id)
			}
		}
	}
	for _, r := range rows {
		if yielded[r.id] != 1 {
			t.Errorf("row %s is yielded by %d scenarios, want 1", r.id, yielded[r.id])
		}
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"-rows pair-p50,told -n 1 -t 100ms", ""},
		{"-rows pair", `no row "pair"`},
		{"-products zookeeper", `no product "zookeeper"`},
		{"-n 0", "must be more than nothing"},
		{"told", `unknown argument "told"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%q: got error %v, want %q", c.args, err, c.want)
		}
	}
}

// All rows once, as short as can be: what they say is not looked at, but that
// every product has a figure in each.
func TestAllRows(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		fmt.Fprintf(os.Stderr, "SKIP %s: no redis-server on the PATH\n", t.Name())
		t.Skip("NOT TESTED: no redis-server on the PATH: install redis to run this test")
	}
	s, err := parse([]string{"-n", "1", "-t", "100ms", "-idle", "1s"})
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		// Those without long waits.
		s.rows = []string{"pair-p50", "ops", "hand-p50", "gone", "allocs"}
	}
	table, begun := newTable(), time.Now()
	if err := measure(t.Context(), s, table); err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios {
		if !sc.wanted(s.rows) {
			continue
		}
		for _, id := range sc.rows {
			for _, p := range products {
				if len(table.of[id][p.name]) != 1 {
					t.Errorf("row %s has %d figures of %s, want 1", id, len(table.of[id][p.name]), p.name)
				}
			}
		}
	}
	var out bytes.Buffer
	table.print(&out, true)
	t.Logf("in %v:\n%s", time.Since(begun), &out)
}
