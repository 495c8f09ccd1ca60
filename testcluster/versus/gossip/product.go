//go:build linux

package main

import (
	"context"
	"os/exec"
)

// The states of a member, in the words of peer.
const (
	alive   = "alive"
	suspect = "suspect"
	failed  = "failed"
	left    = "left"
)

// seen is one member as an agent sees it. Only who is alive is handed out.
type seen struct{ Name, Host, State string }

// view is everybody as one agent sees them.
type view []seen

// spec says how one agent is started.
type spec struct {
	Name  string
	Host  string // its address; every agent has one of its own
	Seed  string // the address to join through, or none
	Data  string // directory that outlives the process, or none
	Key   string // gossip key in base64, or none
	Debug bool   // log everything
}

const (
	gossipPort = "7946"
	apiPort    = "7980"
	rpcPort    = "7373"
)

// product is one of the agents that are measured.
type product interface {
	name() string
	command(s spec) (*exec.Cmd, error)
	watch(s spec) viewer
	// rotate has the whole cluster of s encrypt with a new key, and forget the old
	// one, as its manual says; it returns whom the answers name as left behind.
	rotate(ctx context.Context, s spec, key string) ([]string, error)
	// failedMark is what a line of its log holds when it calls a member failed.
	failedMark() string
}

// viewer reads the view of one agent. It belongs to one goroutine at a time.
type viewer interface {
	// view returns the newest view, of one member if of names one. A product that
	// can tell of changes waits for one, a second at the most, unless fresh is set;
	// the others answer at once.
	view(ctx context.Context, of string, fresh bool) (view, error)
	// waits says whether view waits for changes.
	waits() bool
	// close ends the connections; the viewer stays usable.
	close()
}
