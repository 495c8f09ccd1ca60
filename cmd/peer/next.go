package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

func nextVerb() *verb {
	return &verb{
		name:  "next",
		form:  "[--policy POLICY] [--key KEY] [--tag K=V] [--exclude NAME] [--count N] [-o FORMAT] [--addr ADDR] [SERVICE]",
		short: "whose turn it is: the next live peer",
		long: `
Takes a turn: prints the next live peer, and moves on, so that callers on this
host spread over all live peers. One that is suspect, failed or gone is never
handed out. With SERVICE, only peers that run it, and its port.

With -o json it is the body of GET /v1/next, unchanged.`,
		examples: `
			# send one job to whoever is next
			ssh "$(peer next -o name)" run-job
			# the next two, but not this host
			peer next --exclude "$(hostname)" --count 2 -o name
			# address and port of a healthy web server
			peer next -o template='{{.addr}} {{.port}}' web`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(
			&cli.StringFlag{Name: "policy", Usage: "pick by `POLICY` (default: each in turn)"},
			&cli.StringFlag{Name: "key", Usage: "for policies that pick by `KEY`: one key, one peer"},
			&cli.StringSliceFlag{Name: "tag", Usage: "only peers with the tag `K=V`; several: all of them"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "not the peer `NAME`"},
			&cli.IntFlag{Name: "count", Usage: "hand out `N` different peers (default 1)", Value: 1},
			outputFlag()),
		max: 1,
		run: runNext,
	}
}

func runNext(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	q := api.NextQuery{
		Policy:  inv.flag("policy"),
		Key:     inv.flag("key"),
		Exclude: splitAll(inv.flags("exclude")),
		Count:   inv.cli.Int("count"),
	}
	if q.Count < 1 {
		return inv.usage("--count %d: want 1 or more", q.Count)
	}
	if q.Tags, err = inv.tags(); err != nil {
		return err
	}
	if len(inv.args) == 1 {
		if q.Service = inv.args[0]; q.Service == "" {
			return inv.usage("the service's name is empty")
		}
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	body, err := c.Raw(inv, http.MethodGet, "/v1/next", q.Values(), nil)
	if err != nil {
		return err
	}
	var n api.Next
	if err := json.Unmarshal(body, &n); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	var names []string
	for _, p := range n.Peers {
		names = append(names, p.Name)
	}
	return inv.print(f, document{
		body:  body,
		items: "peers",
		names: names,
		table: func(t *table, wide bool) {
			t.header("NAME", "ADDR", "SERVICE", "PORT", "RTT", "TAGS")
			for _, p := range n.Peers {
				port := ""
				if p.Port != 0 {
					port = strconv.Itoa(int(p.Port))
				}
				t.add(styleNone, p.Name, p.Addr, p.Service, port, rtt(p.RTTMS), pairs(p.Tags))
			}
		},
	})
}
