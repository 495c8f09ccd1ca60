package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

var memberStates = []string{"alive", "suspect", "failed", "left"}

func membersVerb() *verb {
	return &verb{
		name:  "members",
		form:  "[--state STATE] [--tag K=V] [--service NAME] [--wide] [-o FORMAT] [--addr ADDR] [NAME]",
		short: "who is in the cluster, as this agent sees it",
		long: `
Lists the members of the cluster, sorted by name. alive: heard from in time.
suspect: not handed out, may come back. failed: gone without a word. left: said
goodbye. The cause stands behind the state: overdue and unreachable are the word
of others; stalled, lossy, mute and deaf are the member's own (it was held up,
loses packets, is not heard, hears nobody). --wide says it in words. Members of an
earlier run that were not seen since this agent's start are in peer status.

HEARTBEAT is the age of the newest sign of life that is known here; * marks the
agent that is asked. --wide shows services too, with their health when it is not
passing.

NAME may hold * and ?. With -o json it is the body of GET /v1/members, unchanged.`,
		examples: `
			# everybody
			peer members
			# who is not well? (exit code 2: nobody)
			peer members --state failed --state suspect
			# the addresses of all web hosts in one rack, for a script
			peer members --state alive --tag role=web --tag rack=r1 -o template='{{.addr}}'`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(
			&cli.StringSliceFlag{Name: "state", Usage: "only those in `STATE`: alive, suspect, failed or left"},
			&cli.StringSliceFlag{Name: "tag", Usage: "only those with the tag `K=V`; several: all of them"},
			&cli.StringFlag{Name: "service", Usage: "only those that run the service `NAME`"},
			&cli.BoolFlag{Name: "wide", Usage: "more columns; the same as -o wide"},
			outputFlag()),
		max: 1,
		run: runMembers,
	}
}

func runMembers(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	if inv.cli.Bool("wide") && f.kind == "table" {
		f.kind = "wide"
	}
	q := api.MembersQuery{Service: inv.flag("service")}
	for _, s := range splitAll(inv.flags("state")) {
		if !slices.Contains(memberStates, s) {
			return inv.usage("unknown state %q; want %s", s, strings.Join(memberStates, ", "))
		}
		q.States = append(q.States, s)
	}
	if q.Tags, err = inv.tags(); err != nil {
		return err
	}
	if len(inv.args) == 1 {
		if q.Name = inv.args[0]; q.Name == "" {
			return inv.usage("the name is empty")
		}
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	body, err := c.Raw(inv, http.MethodGet, "/v1/members", q.Values(), nil)
	if err != nil {
		return err
	}
	var m api.Members
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	var names []string
	for _, mm := range m.Members {
		names = append(names, mm.Name)
	}
	err = inv.print(f, document{
		body:  body,
		items: "members",
		names: names,
		table: func(t *table, wide bool) { drawMembers(t, m, wide) },
	})
	if err == nil && len(m.Members) == 0 {
		inv.note("no member matches")
		return withCode(exitNo, nil)
	}
	return err
}

func drawMembers(t *table, m api.Members, wide bool) {
	head := []string{"NAME", "STATE", "SINCE", "HEARTBEAT", "RTT", "ADDR", "TAGS"}
	if wide {
		head = append(head, "ELIGIBLE", "FLAPS", "VERSION", "INSTANCE", "SERVICES")
	}
	t.header(head...)
	for _, mm := range m.Members {
		name, state := mm.Name, mm.State
		if mm.Self {
			name += " *"
		}
		switch {
		case wide:
			state = api.StateText(mm.State, mm.Cause, mm.Addr)
		case mm.Cause != "" && mm.Cause != mm.State:
			state += " (" + mm.Cause + ")"
		}
		beat := shortMS(mm.HeartbeatAgeMS)
		if mm.State == "failed" || mm.State == "left" {
			beat = "-"
		}
		cells := []string{name, state, since(m.AsOf, mm.Since), beat, rtt(mm.RTTMS), mm.Addr, pairs(mm.Tags)}
		if wide {
			var services []string
			for _, s := range mm.Services {
				services = append(services, serviceCell(s))
			}
			eligible := "no"
			if mm.Eligible {
				eligible = "yes"
			}
			cells = append(cells, eligible, strconv.Itoa(mm.Flaps), mm.Version, mm.Instance, strings.Join(services, ","))
		}
		t.add(stateStyle(mm.State), cells...)
	}
}

// serviceCell is a service with what keeps it from being handed out, if anything
// does.
func serviceCell(s api.Service) string {
	out := fmt.Sprintf("%s:%d", s.Name, s.Port)
	var why []string
	if s.Health != "" && s.Health != "passing" {
		why = append(why, s.Health)
	}
	if s.Draining {
		why = append(why, "draining")
	}
	if why != nil {
		out += "(" + strings.Join(why, ",") + ")"
	}
	return out
}

func stateStyle(state string) string {
	switch state {
	case "failed":
		return styleBad
	case "suspect":
		return styleWarn
	case "left":
		return styleFaint
	}
	return styleNone
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(now.Sub(t))
}

// pairs writes tags as k=v,k=v, sorted.
func pairs(m map[string]string) string {
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

// tags reads --tag K=V.
func (inv *invocation) tags() (map[string]string, error) {
	var out map[string]string
	for _, kv := range inv.flags("tag") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, inv.usage("tag %q: want KEY=VALUE", kv)
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[k] = v
	}
	return out, nil
}

// splitAll reads a flag that may be repeated and may hold commas.
func splitAll(in []string) []string {
	var out []string
	for _, s := range in {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}
