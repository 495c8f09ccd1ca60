//go:build linux

package main

import (
	"slices"
	"time"
)

// scenario is what yields the figures of some rows.
type scenario struct {
	name string
	rows []string
	run  func(*lab) error
	// perRun is how many figures of a row one run can give at little cost; 1 means
	// that a run is long, and gives one.
	perRun int
	// floor says that bare memberlist is measured too, and all at one time: each
	// bears the load of the machine that the others bear.
	floor bool
	// extra keeps it out of a run that names no rows.
	extra bool
	limit time.Duration // of one run
}

// scenarios in the order in which they run. It is filled by init, for the
// workers look themselves up in it.
var scenarios []scenario

func init() {
	scenarios = []scenario{
		{name: "nothing", run: func(*lab) error { return nil }, extra: true},
		{name: "start", rows: []string{"start"}, run: starts, perRun: 10, limit: time.Minute},
		{name: "life", rows: []string{"kill-first", "kill", "stop", "cont", "restart", "join", "leave", "exit"}, run: life, perRun: 5, limit: 8 * time.Minute},
		{name: "crowd", rows: []string{"kill30"}, run: crowd, perRun: 3, limit: 6 * time.Minute},
		{name: "three", rows: []string{"kill3"}, run: three, perRun: 3, limit: 5 * time.Minute},
		{name: "pauses", rows: []string{"pause1.5", "pause3", "pause4.5"}, run: pauses, perRun: 2, limit: 6 * time.Minute},
		{name: "cable", rows: []string{"cable"}, run: cable, perRun: 2, limit: 6 * time.Minute},
		{name: "address", rows: []string{"address"}, run: newAddress, perRun: 1, limit: 4 * time.Minute},
		{name: "outage", rows: []string{"outage"}, run: func(l *lab) error { return outage(l, "outage", 0, 0) }, perRun: 1, limit: 4 * time.Minute},
		{name: "outage-moved", rows: []string{"outage-moved"}, run: func(l *lab) error { return outage(l, "outage-moved", 0, 3) }, perRun: 1, limit: 4 * time.Minute},
		{name: "outage-slow", rows: []string{"outage-slow"}, run: func(l *lab) error { return outage(l, "outage-slow", 500*time.Millisecond, 0) }, perRun: 1, limit: 4 * time.Minute},
		{name: "partition", rows: []string{"heal"}, run: partition, perRun: 1, limit: 6 * time.Minute},
		{name: "seed", rows: []string{"seed"}, run: seedDown, perRun: 1, limit: 6 * time.Minute},
		{name: "keys", rows: []string{"keys-named", "keys-back"}, run: rotation, perRun: 1, limit: 5 * time.Minute},
		{name: "lone-killed", rows: []string{"lone-killed"}, run: func(l *lab) error { return lone(l, "lone-killed", 6, true) }, perRun: 1, limit: 4 * time.Minute},
		{name: "lone-silent", rows: []string{"lone-silent"}, run: func(l *lab) error { return lone(l, "lone-silent", 6, false) }, perRun: 1, limit: 4 * time.Minute},
		{name: "lone-silent10", rows: []string{"lone-silent10"}, run: func(l *lab) error { return lone(l, "lone-silent10", 10, false) }, perRun: 1, limit: 5 * time.Minute},
		{name: "idle", rows: []string{"rss", "cpu", "bytes"}, run: idle, perRun: 1, floor: true, limit: 5 * time.Minute},
		{name: "churn", rows: []string{"churn-rss", "churn-goroutines", "churn-fds"}, run: churn, perRun: 1, extra: true, limit: 5 * time.Minute},
	}
}

// wanted says whether s yields one of ids, or belongs to the usual run when
// there are none.
func (s scenario) wanted(ids []string) bool {
	if len(ids) == 0 {
		return !s.extra
	}
	return slices.ContainsFunc(s.rows, func(id string) bool { return slices.Contains(ids, id) })
}
