package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/peerhq/peer/agent/api"
)

func statusVerb() *verb {
	return &verb{
		name:  "status",
		form:  "[-o FORMAT] [--addr ADDR]",
		short: "one verdict on this agent and its cluster, and why",
		long: `
Prints the agent's verdict in one sentence, what speaks against it, and the
numbers behind it: its own node, the cluster as it sees it, the shared Redis,
the checks of its readiness, and warnings with the way to mend them. Members that
it remembers from an earlier run and has not seen since its start count in the
size, and the verdict is not ok until they are back, have left or are forgotten.
The status page and the metrics draw from the same picture.

With -o json it is the body of GET /v1/status, unchanged.`,
		examples: `
			# is all well here? (for scripts: exit code 2 says no)
			peer status
			# how many are alive?
			peer status -o template='{{.cluster.alive}}'`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(outputFlag()),
		run:   runStatus,
	}
}

func runStatus(inv *invocation) error {
	f, err := inv.format()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	body, err := c.Raw(inv, http.MethodGet, "/v1/status", nil, nil)
	if err != nil {
		return err
	}
	var s api.Status
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	err = inv.print(f, document{
		body:  body,
		names: []string{s.Node.Name},
		table: func(t *table, wide bool) { drawStatus(t, s, wide) },
	})
	if err == nil && !ready(s) {
		return withCode(exitNo, nil)
	}
	return err
}

// ready says whether the verdict is good and no check of readiness fails.
func ready(s api.Status) bool {
	for _, c := range s.Checks {
		if c.Status == "fail" {
			return false
		}
	}
	return s.Verdict.OK
}

func drawStatus(t *table, s api.Status, wide bool) {
	mark, style := "ok", styleGood
	if !s.Verdict.OK {
		mark, style = "NOT OK", styleBad
	}
	t.add(style, mark, s.Verdict.Text)
	for _, r := range s.Verdict.Reasons {
		t.add(styleBad, "because", r)
	}
	if s.Node.Mode == "dev" {
		t.add(styleWarn, "mode", "development cluster: several agents in one process, embedded Redis in memory")
	}
	t.add(styleNone, "node", fmt.Sprintf("%s at %s, %s, up %s, peer %s",
		s.Node.Name, s.Node.Addr, s.Node.State, short(s.AsOf.Sub(s.Node.StartedAt)), s.Node.Version))
	if wide {
		t.add(styleNone, "history", fmt.Sprintf("%d suspicions, %d returns, %d stalls of %s in all, %d instances in the table",
			s.Cluster.Suspicions, s.Cluster.Flaps, s.Cluster.Stalls, shortMS(s.Cluster.StalledMS), s.Cluster.TableEntries))
		t.add(styleNone, "instance", fmt.Sprintf("%s, pid %d, page http://%s/", s.Node.Instance, s.Node.PID, s.Node.HTTPAddr))
	}
	cl := s.Cluster
	secret := "not encrypted"
	if cl.Encrypted {
		secret = "encrypted"
		if cl.KeyFingerprint != "" {
			secret += " (key " + cl.KeyFingerprint + ")"
		}
	}
	missing := ""
	if n := len(cl.Unseen); n > 0 {
		missing = fmt.Sprintf(", %d not seen", n)
	}
	t.add(styleNone, "cluster", fmt.Sprintf("%s: %d alive, %d suspect, %d failed, %d left%s; %d in rotation; %s",
		cl.Label, cl.Alive, cl.Suspect, cl.Failed, cl.Left, missing, s.Selector.Eligible, secret))
	drawUnseen(t, cl.Unseen, wide)
	for _, seed := range cl.Seeds {
		switch {
		case seed.LastError != "":
			t.add(styleWarn, "seed", seed.Addr+": "+seed.LastError)
		case wide && seed.LastOKAt != nil:
			t.add(styleNone, "seed", seed.Addr+": answered "+short(s.AsOf.Sub(*seed.LastOKAt))+" ago")
		}
	}
	drawBackend(t, s.Locks)
	for _, c := range s.Checks {
		style := map[string]string{"fail": styleBad, "warn": styleWarn}[c.Status]
		t.add(style, "check", fmt.Sprintf("%s %s: %s", map[string]string{"pass": "[+]", "warn": "[!]", "fail": "[-]"}[c.Status], c.Name, c.Text))
	}
	for _, w := range s.Warnings {
		t.add(styleWarn, "warning", w.Text)
		if w.Fix != "" {
			t.add(styleNone, "fix", w.Fix)
		}
	}
	if wide {
		t.add(styleNone, "events", fmt.Sprintf("%d, the last %d kept; as of %s", s.Events.Seq, s.Events.Seq-s.Events.Oldest+1, s.AsOf.Format(time.RFC3339)))
	}
}

// unseenShown is how many of the unseen are listed; -o wide lists all.
const unseenShown = 10

func drawUnseen(t *table, unseen []api.StatusUnseen, wide bool) {
	for i, u := range unseen {
		if i == unseenShown && !wide {
			t.add(styleWarn, "not seen", fmt.Sprintf("and %d more; -o wide lists all", len(unseen)-i))
			break
		}
		t.add(styleWarn, "not seen", fmt.Sprintf("%s at %s, absent for %s", u.Name, u.Addr, shortMS(u.AbsentMS)))
	}
	if len(unseen) > 0 {
		t.add(styleNone, "fix", "start them, or drop those that will not come back with `peer forget NAME`")
	}
}

func drawBackend(t *table, l api.StatusLocks) {
	b := l.Backend
	if b.Kind == "none" || b.Kind == "" {
		t.add(styleNone, "locks", "no Redis configured")
		return
	}
	held := fmt.Sprintf("; %d held here, %d waiting", l.Held, l.Waiting)
	if !b.Up {
		why := b.LastError
		if why == "" {
			why = "not reached yet"
		}
		t.add(styleWarn, "locks", fmt.Sprintf("%s %s is down: %s%s", b.Kind, b.Addr, why, held))
		return
	}
	t.add(styleNone, "locks", fmt.Sprintf("%s %s, %s%s", b.Kind, b.Addr, rtt(b.LatencyMS), held))
}
