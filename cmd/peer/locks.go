package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

func locksVerb() *verb {
	return &verb{
		name:  "locks",
		form:  "[-o FORMAT] [--addr ADDR] [NAME]",
		short: "who holds which lock, and who waits",
		long: `
Lists the locks of the shared Redis that are held or waited for: the process that
holds it, its fencing token, when its lease runs out unless renewed, and how many
wait. With NAME only that lock; -o wide lists the waiters in their order.

With -o json it is the body of GET /v1/locks (or /v1/locks/NAME), unchanged.`,
		examples: `
			# all of them
			peer locks
			# is anybody deploying? (exit code 2: nobody)
			peer locks deploy`,
		exits: []int{exitNo, exitUnavailable, exitRefused, exitConfig},
		group: groupLock,
		flags: clientFlags(outputFlag()),
		max:   1,
		run:   runLocks,
	}
}

func runLocks(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	path, items := "/v1/locks", "locks"
	if len(inv.args) == 1 {
		if inv.args[0] == "" {
			return inv.usage("the lock's name is empty")
		}
		path, items = path+"/"+api.PathSegment(inv.args[0]), ""
	}
	body, err := c.Raw(inv, http.MethodGet, path, nil, nil)
	var p *api.Problem
	if errors.As(err, &p) && p.Kind() == api.KindNoLock {
		inv.note("nobody holds the lock %s or waits for it", cell(inv.args[0]))
		return withCode(exitNo, nil)
	}
	if err != nil {
		return err
	}
	var l api.Locks
	if items == "" {
		l.Locks = make([]api.Lock, 1)
		err = json.Unmarshal(body, &l.Locks[0])
	} else {
		err = json.Unmarshal(body, &l)
	}
	if err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	var names []string
	for _, lock := range l.Locks {
		names = append(names, lock.Name)
	}
	if len(names) == 0 && f.kind == "table" {
		inv.note("no lock is held or waited for")
	}
	return inv.print(f, document{
		body:  body,
		items: items,
		names: names,
		table: func(t *table, wide bool) { drawLocks(t, l, wide) },
	})
}

func drawLocks(t *table, l api.Locks, wide bool) {
	head := []string{"NAME", "HOLDER", "COMMAND", "FENCE", "EXPIRES", "TTL", "WAITING"}
	t.header(head...)
	for _, lock := range l.Locks {
		holder, command, expires := "-", "-", "-"
		if h := lock.Holder; h != nil {
			holder, command, expires = fmt.Sprintf("%s/%d", h.Node, h.PID), h.Command, shortMS(lock.ExpiresInMS)
		}
		waiting := fmt.Sprint(len(lock.Waiters))
		if wide {
			var w []string
			for _, x := range lock.Waiters {
				w = append(w, fmt.Sprintf("%d. %s/%d", x.Position, x.Node, x.PID))
			}
			waiting = strings.Join(w, ", ")
		}
		t.add(styleNone, lock.Name, holder, command, fmt.Sprint(lock.Fence), expires, shortMS(lock.TTLMS), waiting)
	}
}
