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
	millis    unit = iota // milliseconds
	wrong                 // 1 for a try that went wrong, 0 for one that did not
	megabytes             // MiB
	perSecond             // milliseconds of CPU a second
	bytesPer              // bytes a second
	pieces                // a plain number
)

// row is one line of the table.
type row struct {
	id    string
	title string
	unit  unit
	bar   float64 // the median must not be above it, and a count never; negative: none
	bare  bool    // the bar is a multiple of what bare memberlist takes beside it
}

// rows are the lines of the table, in its order.
var rows = []row{
	{"kill-first", "kill -9 → first of 9 has it out of rotation", millis, -1, false},
	{"kill", "kill -9 → nobody hands it out, N = 10", millis, 50, false},
	{"kill30", "kill -9 → nobody hands it out, N = 30", millis, 100, false},
	{"kill3", "3 of 10 killed in one instant → nobody hands them out", millis, 50, false},
	{"stop", "SIGSTOP → nobody hands it out", millis, 2000, false},
	{"cable", "cable cut → nobody hands it out", millis, 2000, false},
	{"cont", "SIGCONT → handed out again", millis, 50, false},
	{"pause1.5", "false `failed` after a pause of 1.5 s", wrong, 0, false},
	{"pause3", "false `failed` after a pause of 3 s", wrong, 0, false},
	{"pause4.5", "false `failed` after a pause of 4.5 s", wrong, 0, false},
	{"restart", "killed agent restarted → all see all alive", millis, 100, false},
	{"join", "join → all see it", millis, 100, false},
	{"leave", "graceful leave → all see `left`", millis, 50, false},
	{"exit", "graceful leave → process gone", millis, 1000, false},
	{"address", "crashed peer back on a new address, same name", millis, 400, false},
	{"outage", "all killed, restarted together, no join flag → whole", millis, 1000, false},
	{"outage-moved", "the same, three of ten on new addresses", millis, 1000, false},
	{"outage-slow", "the same, one start every 0.5 s → whole after the last", millis, 5000, false},
	{"heal", "3\\|3 partition healed → whole", millis, 3000, false},
	{"seed", "seed down, then up → whole", millis, 2000, false},
	{"keys-named", "key rotation with a member down that does not name it", wrong, 0, false},
	{"keys-back", "that member, back with the old key → whole", millis, 1000, false},
	{"lone-killed", "lone survivor of 6 has 5 killed out of rotation", millis, 200, false},
	{"lone-silent", "lone survivor of 6 has 5 silent out of rotation", millis, 2000, false},
	{"lone-silent10", "lone survivor of 10 has 9 silent out of rotation", millis, 2000, false},
	{"start", "start → API answers", millis, 15, false},
	{"rss", "RSS of a node of 10", megabytes, 20, false},
	{"cpu", "idle CPU of a node of 10", perSecond, 2.5, true},
	{"bytes", "idle traffic of a node of 10", bytesPer, 1024, false},
	{"churn-rss", "RSS gained in the churn", megabytes, 4, false},
	{"churn-goroutines", "goroutines gained in the churn", pieces, 4, false},
	{"churn-fds", "open files gained in the churn", pieces, 4, false},
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
	case millis:
		switch {
		case v < 10:
			return fmt.Sprintf("%.1f ms", v)
		case v < 1000:
			return fmt.Sprintf("%.0f ms", v)
		}
		return fmt.Sprintf("%.3g s", v/1000)
	case megabytes:
		return fmt.Sprintf("%.1f MB", v)
	case perSecond:
		return fmt.Sprintf("%.2f ms/s", v)
	case bytesPer:
		return fmt.Sprintf("%.0f B/s", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// figures are the samples of one row and one product.
type figures []sample

// median returns the middle value; +Inf when most of the tries never got there.
func (f figures) median() float64 {
	if len(f) == 0 {
		return math.NaN()
	}
	v := f.values()
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// values returns the values in order; who never got there counts as infinite.
func (f figures) values() []float64 {
	var v []float64
	for _, s := range f {
		if s.Never {
			v = append(v, math.Inf(1))
			continue
		}
		v = append(v, s.Value)
	}
	slices.Sort(v)
	return v
}

// cell writes the figures into the table.
func (f figures) cell(u unit) string {
	if len(f) == 0 {
		return "–"
	}
	v := f.values()
	if u == wrong {
		sum := 0.0
		for _, x := range v {
			sum += x
		}
		return fmt.Sprintf("%.0f of %d", sum, len(v))
	}
	lost, limit := 0, 0.0
	for _, s := range f {
		if s.Never {
			lost++
			limit = max(limit, s.Value)
		}
	}
	if lost == len(f) {
		return fmt.Sprintf("never in %s (n=%d)", u.show(limit), len(f))
	}
	if lost > 0 {
		return fmt.Sprintf("%s (%s..never in %s, %d of %d)", orNever(u, f.median()), u.show(v[0]), u.show(limit), lost, len(f))
	}
	if len(f) == 1 {
		return u.show(v[0]) + " (n=1)"
	}
	return fmt.Sprintf("%s (%s..%s, n=%d)", u.show(f.median()), strings.Fields(u.show(v[0]))[0]+unitIfOther(u, v[0], v[len(v)-1]), u.show(v[len(v)-1]), len(f))
}

func orNever(u unit, v float64) string {
	if math.IsInf(v, 1) {
		return "never"
	}
	return u.show(v)
}

// unitIfOther returns the unit of a when b is shown in another.
func unitIfOther(u unit, a, b float64) string {
	fa, fb := strings.Fields(u.show(a)), strings.Fields(u.show(b))
	if len(fa) < 2 || fa[1] == fb[1] {
		return ""
	}
	return " " + fa[1]
}

// ratio says how many times less ours takes than theirs.
func ratio(u unit, ours, theirs figures) string {
	if u == wrong || len(ours) == 0 || len(theirs) == 0 {
		return "–"
	}
	a, b := ours.median(), theirs.median()
	switch {
	case math.IsInf(a, 1) || math.IsInf(b, 1) || a <= 0 || b <= 0:
		return "–"
	case b/a >= 10:
		return fmt.Sprintf("%.0f ×", b/a)
	}
	return fmt.Sprintf("%.2g ×", b/a)
}

// verdict holds ours against the bar: the median must be within it, and for
// counts every try. floor are the figures of bare memberlist.
func (r row) verdict(ours, floor figures) string {
	if r.bar < 0 || len(ours) == 0 {
		return "–"
	}
	bar := r.bar
	if r.bare {
		if len(floor) == 0 {
			return "–"
		}
		bar *= floor.median()
	}
	v := ours.values()
	switch worst := v[len(v)-1]; {
	case worst <= bar:
		return "pass"
	case r.unit != wrong && ours.median() <= bar:
		return "pass, not all"
	}
	return "MISS"
}

// barText writes the bar into the table.
func (r row) barText(floor figures) string {
	switch {
	case r.bar < 0:
		return "–"
	case r.bare && len(floor) == 0:
		return fmt.Sprintf("≤ %g × bare", r.bar)
	case r.bare:
		return fmt.Sprintf("≤ %g × bare (%s)", r.bar, r.unit.show(floor.median()))
	case r.unit == wrong:
		return "0"
	case r.unit == bytesPer:
		return "≤ 1 KB/s"
	case r.unit == pieces:
		return fmt.Sprintf("≤ %g", r.bar)
	case r.unit == megabytes:
		return fmt.Sprintf("≤ %g MB", r.bar)
	case r.bar >= 1000:
		return fmt.Sprintf("≤ %g s", r.bar/1000)
	}
	return fmt.Sprintf("≤ %g ms", r.bar)
}
