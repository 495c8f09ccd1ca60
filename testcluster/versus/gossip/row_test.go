//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

func ms(values ...float64) figures {
	var f figures
	for _, v := range values {
		s := sample{Value: v}
		if v < 0 {
			s = sample{Value: -v, Never: true}
		}
		f = append(f, s)
	}
	return f
}

// A negative figure stands for one that did not come within so many
// milliseconds.
func TestCells(t *testing.T) {
	for _, c := range []struct {
		f    figures
		u    unit
		want string
	}{
		{nil, millis, "–"},
		{ms(8.04), millis, "8.0 ms (n=1)"},
		{ms(30, 8, 20), millis, "20 ms (8.0..30 ms, n=3)"},
		{ms(30, 1200), millis, "615 ms (30 ms..1.2 s, n=2)"},
		{ms(52700), millis, "52.7 s (n=1)"},
		{ms(-60000, -60000), millis, "never in 60 s (n=2)"},
		{ms(300, -60000, -60000), millis, "never (300 ms..never in 60 s, 2 of 3)"},
		{ms(300, 400, -60000), millis, "400 ms (300 ms..never in 60 s, 1 of 3)"},
		{ms(0, 1, 0, 0), wrong, "1 of 4"},
		{ms(15.55), megabytes, "15.6 MB (n=1)"},
		{ms(3.339, 3.5), perSecond, "3.42 ms/s (3.34..3.50 ms/s, n=2)"},
		{ms(1021), bytesPer, "1021 B/s (n=1)"},
	} {
		if got := c.f.cell(c.u); got != c.want {
			t.Errorf("cell of %v: got %q, want %q", c.f, got, c.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		id          string
		ours, floor figures
		want        string
	}{
		{"kill", ms(20, 30, 50), nil, "pass"},
		{"kill", ms(20, 30, 51), nil, "pass, not all"},
		{"kill", ms(20, 51, 52), nil, "MISS"},
		{"kill", ms(20, 30, -60000), nil, "pass, not all"},
		{"kill", nil, nil, "–"},
		{"kill-first", ms(20), nil, "–"},
		{"pause3", ms(0, 0, 0), nil, "pass"},
		{"pause3", ms(0, 0, 1), nil, "MISS"},
		{"cpu", ms(3), ms(1.3), "pass"},
		{"cpu", ms(3), ms(1.1), "MISS"},
		{"cpu", ms(3), nil, "–"},
	} {
		r, _ := rowOf(c.id)
		if got := r.verdict(c.ours, c.floor); got != c.want {
			t.Errorf("%s of %v over %v: got %q, want %q", c.id, c.ours, c.floor, got, c.want)
		}
	}
}

func TestRatios(t *testing.T) {
	for _, c := range []struct {
		ours, serf figures
		want       string
	}{
		{ms(20), ms(5800), "290 ×"},
		{ms(8), ms(4), "0.5 ×"},
		{ms(8), ms(-60000), "–"},
		{ms(8), nil, "–"},
	} {
		if got := ratio(millis, c.ours, c.serf); got != c.want {
			t.Errorf("%v beside %v: got %q, want %q", c.serf, c.ours, got, c.want)
		}
	}
}

// Every row has one scenario that yields it, and scenarios yield rows only.
func TestRowsHaveScenarios(t *testing.T) {
	var yielded []string
	for _, s := range scenarios {
		yielded = append(yielded, s.rows...)
		if s.name != "nothing" && (s.perRun < 1 || s.limit <= 0 || s.run == nil) {
			t.Errorf("scenario %s is half made: %+v", s.name, s)
		}
	}
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.id)
	}
	slices.Sort(yielded)
	slices.Sort(ids)
	if !slices.Equal(ids, yielded) {
		t.Errorf("rows are %v, scenarios yield %v", ids, yielded)
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"-rows kill,stop -n 3", ""},
		{"-rows kil", `no row "kil"`},
		{"-products consul", `no product "consul"`},
		{"-n 0", "-n and -slow"},
		{"-at HEAD -peer ./peer", "exclude each other"},
		{"kill", `unknown argument "kill"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if got := errorText(err); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%q: got error %q, want %q", c.args, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
