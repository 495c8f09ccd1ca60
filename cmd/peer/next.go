package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

func nextVerb() *verb {
	return &verb{
		name:  "next",
		form:  "[--policy POLICY] [--key KEY] [--tag K=V] [--exclude NAME] [--count N] [--explain] [-o FORMAT] [--addr ADDR] [SERVICE]",
		short: "whose turn it is: the next live peer",
		long: `
Takes a turn: prints the next live peer, and moves on, so that callers on this
host spread over all live peers. One that is suspect, failed or gone is never
handed out. With SERVICE, only peers on which it is well, and what is printed is
its HOST:PORT, one a line; -o table shows more. Without SERVICE it is a table on a
terminal, and one name a line for a script.

--explain takes no turn: it says where everybody stands and why.

With -o json it is the body of GET /v1/next, unchanged.`,
		examples: `
			# send one job to whoever is next
			ssh "$(peer next)" run-job
			# the next two, but not this host
			peer next --exclude "$(hostname)" --count 2
			# ask a healthy web server
			curl "http://$(peer next web)/"
			# why is it never web-3's turn?
			peer next --explain web`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(
			&cli.StringFlag{Name: "policy", Usage: "pick by `POLICY` (default: each in turn)"},
			&cli.StringFlag{Name: "key", Usage: "for policies that pick by `KEY`: one key, one peer"},
			&cli.StringSliceFlag{Name: "tag", Usage: "only peers with the tag `K=V`; several: all of them"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "not the peer `NAME`"},
			&cli.BoolFlag{Name: "explain", Usage: "say where everybody stands and why, and take no turn"},
			&cli.IntFlag{Name: "count", Usage: "hand out `N` different peers (default 1)", Value: 1},
			addrOutputFlag()),
		max: 1,
		run: runNext,
	}
}

func runNext(inv *invocation) error {
	f, err := inv.addrFormat()
	if err != nil {
		return err
	}
	q := api.NextQuery{
		Explain: inv.cli.Bool("explain"),
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
	// $(peer next web) and $(peer next) are what it is for.
	switch {
	case inv.has("output") || q.Explain:
	case q.Service != "":
		f.kind = "addr"
	case !isTerminal(inv.stdout):
		f.kind = "name"
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
	if q.Explain {
		return inv.printStandings(f, body, n)
	}
	var names []string
	for _, p := range n.Peers {
		if f.kind == "addr" {
			if err := inv.printAddr(p.Addr, p.Port); err != nil {
				return err
			}
		}
		names = append(names, p.Name)
	}
	if f.kind == "addr" {
		return nil
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

// printStandings prints where everybody stands.
func (inv *invocation) printStandings(f format, body []byte, n api.Next) error {
	if f.kind == "addr" {
		return inv.usage("-o addr does not go with --explain")
	}
	var names []string
	for _, x := range n.Explain {
		names = append(names, x.Name)
	}
	return inv.print(f, document{
		body: body, items: "explain", names: names,
		table: func(t *table, wide bool) {
			head := []string{"TURN", "NAME", "ADDR", "TIER", "SHARE", "WHY"}
			if wide {
				head = append(head, "STRIKES", "LATENCY")
			}
			t.header(head...)
			for _, x := range n.Explain {
				turn, tier, style := "-", x.Tier, styleFaint
				if x.Rank >= 0 {
					turn, style = strconv.Itoa(x.Rank+1), styleNone
				}
				if tier == "" {
					tier = "-"
				}
				cells := []string{turn, x.Name, net.JoinHostPort(x.Addr, strconv.Itoa(int(x.Port))), tier, fmt.Sprintf("%.0f%%", 100*x.Share), x.Why}
				if wide {
					cells = append(cells, strconv.Itoa(x.Strikes), rtt(x.LatencyMS))
				}
				t.add(style, cells...)
			}
		},
	})
}
