package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/peerhq/peer/agent/api"
)

func rttVerb() *verb {
	return &verb{
		name:  "rtt",
		form:  "[-o FORMAT] [--addr ADDR] [NAME]",
		short: "round trips from this agent to the others, nearest first",
		long: `
Lists how long gossip's own pings take from the agent to each live member and
back, nearest first. Each is of the last ping to that member; in a cluster of N
one comes about every N seconds. Those not measured yet come last.

NAME may hold * and ?. With -o json it is the body of GET /v1/members, unchanged.`,
		examples: `
			peer rtt
			# the nearest peer, for a script
			peer rtt -o name | head -1`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(outputFlag()),
		max:   1,
		run:   runRTT,
	}
}

func runRTT(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	q := api.MembersQuery{States: []string{"alive"}}
	if len(inv.args) == 1 {
		q.Name = inv.args[0]
	}
	body, err := c.Raw(inv, http.MethodGet, "/v1/members", q.Values(), nil)
	if err != nil {
		return err
	}
	var m api.Members
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	others := slices.DeleteFunc(m.Members, func(m api.Member) bool { return m.Self })
	slices.SortStableFunc(others, func(a, b api.Member) int {
		switch {
		case a.RTTMS == nil && b.RTTMS == nil:
			return 0
		case a.RTTMS == nil, b.RTTMS != nil && *a.RTTMS > *b.RTTMS:
			return 1
		case b.RTTMS == nil, *a.RTTMS < *b.RTTMS:
			return -1
		}
		return 0
	})
	var names []string
	for _, mm := range others {
		names = append(names, mm.Name)
	}
	err = inv.print(f, document{
		body: body, items: "members", names: names,
		table: func(t *table, _ bool) {
			t.header("NAME", "RTT", "ADDR")
			for _, mm := range others {
				t.add(styleNone, mm.Name, rtt(mm.RTTMS), mm.Addr)
			}
		},
	})
	if err == nil && len(others) == 0 {
		inv.note("no other member is alive")
		return withCode(exitNo, nil)
	}
	return err
}
