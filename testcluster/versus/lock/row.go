//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// unit is what a row's figures are counted in.
type unit int

const (
	micros    unit = iota // microseconds
	millis                // milliseconds
	perSecond             // of whatever the row says
	fraction              // 0 to 1
	pieces                // a plain number
)

// sense is how a bar is meant.
type sense int

const (
	none    sense = iota
	atMost        // this much
	atLeast       // this much
	above         // more than this
)

// row is one line of the table.
type row struct {
	id    string
	title string
	unit  unit
	sense sense
	bar   float64
	times bool // the bar is that many times what raw takes
}

// rows are the lines of the table, in its order.
var rows = []row{
	{"pair-p50", "acquire + release of a free lock, p50", micros, atMost, 1.2, true},
	{"pair-p99", "the same, p99", micros, none, 0, false},
	{"pair-ctx", "the same, p50, under a context that can end", micros, none, 0, false},
	{"ops", "64 goroutines, 64 locks, pairs a second", perSecond, atLeast, 1.5, true},
	{"ops-ctx", "the same, under a context that can end", perSecond, none, 0, false},
	{"jain", "64 clients, 1 lock: Jain's index", fraction, atLeast, 0.99, false},
	// A lock that is handed over costs its taker and its giver one each.
	{"trips", "the same: round trips an acquisition", pieces, atMost, 2.05, false},
	{"calls", "the same: commands sent an acquisition", pieces, none, 0, false},
	{"hand-p50", "hand-over to another client, 16 waiting, p50", micros, atMost, 1.6, true},
	{"hand-p99", "the same, p99", micros, atMost, 1000, false},
	{"hand-rate", "the same, hand-overs a second", perSecond, atLeast, 5000, false},
	{"idle", "64 idle waiters in 64 clients: commands a second", perSecond, atMost, 64, false},
	{"idle-conns", "the same: connections a client beyond its first", pieces, atMost, 1, false},
	{"idle-one", "64 idle waiters in one client: commands a second", perSecond, atMost, 64, false},
	{"idle-one-conns", "the same: connections beyond its first", pieces, atMost, 1, false},
	{"gone", "8 waiters ahead killed: release → next live one", millis, atMost, 10, false},
	// The claim, and what the timer that follows it takes.
	{"away", "2 waiters ahead cut off: release → next live one", millis, atMost, 1050, false},
	{"told", "holder cut off: told before the next one has it, worst phase", millis, above, 0, false},
	{"far-first", "free lock at 120 ms RTT, new client", millis, atMost, 250, false},
	{"far", "free lock at 120 ms RTT, the next time", millis, atMost, 250, false},
	{"allocs", "heap allocations, acquire + release", pieces, atMost, 34, false},
	{"allocs-ctx", "the same, under a context that can end", pieces, atMost, 34, false},
	{"bytes", "heap bytes, acquire + release", pieces, none, 0, false},
}

func rowOf(id string) (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.id == id })
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// show writes a figure for a person.
func (u unit) show(v float64) string {
	switch u {
	case micros:
		if v >= 10_000 {
			return millis.show(v / 1000)
		}
		return fmt.Sprintf("%.0f µs", v)
	case millis:
		if math.Abs(v) < 9.95 {
			return fmt.Sprintf("%.1f ms", v)
		}
		return fmt.Sprintf("%.0f ms", v)
	case perSecond:
		if v < 10 {
			return fmt.Sprintf("%.1f/s", v)
		}
		return fmt.Sprintf("%.0f/s", v)
	case fraction:
		return fmt.Sprintf("%.3f", v)
	}
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", math.Round(v*100)/100)
}

// figure is one round's.
type figure struct {
	value float64
	never string // it did not happen; this is what to say
}

// figures are those of one row and one product, by round.
type figures []figure

func (f figures) values() []float64 {
	var v []float64
	for _, x := range f {
		if x.never == "" {
			v = append(v, x.value)
		}
	}
	slices.Sort(v)
	return v
}

// cell writes the figures into the table.
func (f figures) cell(u unit) string {
	v := f.values()
	switch {
	case len(f) == 0:
		return "–"
	case len(v) < len(f):
		i := slices.IndexFunc(f, func(x figure) bool { return x.never != "" })
		if len(v) == 0 {
			return f[i].never
		}
		return fmt.Sprintf("%s in %d of %d", f[i].never, len(f)-len(v), len(f))
	}
	least, mid, most := u.show(v[0]), u.show(median(v)), u.show(v[len(v)-1])
	if least == most {
		return mid
	}
	if a, b := strings.Fields(least), strings.Fields(most); len(a) == 2 && a[1] == b[1] {
		least = a[0]
	}
	return fmt.Sprintf("%s (%s..%s)", mid, strings.TrimSuffix(least, "/s"), most)
}

// median of sorted values; NaN when there are none.
func median(v []float64) float64 {
	n := len(v)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// ratios are those of a to b, of each round that has both.
func ratios(a, b figures) []float64 {
	var v []float64
	for i := range min(len(a), len(b)) {
		if a[i].never == "" && b[i].never == "" && b[i].value > 0 {
			v = append(v, a[i].value/b[i].value)
		}
	}
	slices.Sort(v)
	return v
}

// ratioText says how many times b ours is.
func ratioText(r row, a, b figures) string {
	v := ratios(a, b)
	if len(v) == 0 || r.unit == fraction || r.sense == above {
		return "–"
	}
	if m := median(v); m < 0.1 {
		return fmt.Sprintf("%.2g", m)
	}
	return fmt.Sprintf("%.2f", median(v))
}

// barText writes the bar into the table.
func (r row) barText() string {
	var b string
	switch {
	case r.sense == none:
		return "–"
	case r.times:
		b = fmt.Sprintf("%g × raw", r.bar)
	default:
		b = r.unit.show(r.bar)
	}
	return map[sense]string{atMost: "≤ ", atLeast: "≥ ", above: "> "}[r.sense] + b
}

// verdict holds ours against the bar.
func (r row) verdict(a, b figures) string {
	if r.sense == none || len(a) == 0 {
		return "–"
	}
	v := a.values()
	if r.times {
		if v = ratios(a, b); len(v) == 0 {
			return "–"
		}
	}
	if len(a.values()) < len(a) {
		return "MISS"
	}
	met := func(x float64) bool {
		switch r.sense {
		case atMost:
			return x <= r.bar
		case atLeast:
			return x >= r.bar
		}
		return x > r.bar
	}
	switch {
	case met(v[0]) && met(v[len(v)-1]):
		return "pass"
	case met(median(v)):
		return "pass, not all"
	}
	return "MISS"
}
