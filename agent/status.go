package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

// Status returns the one picture of this agent and its cluster, from which the
// page, the command line and the metrics draw.
func (a *Agent) Status(context.Context) api.Status {
	v := a.cluster.View()
	cs := a.cluster.Stats()
	self := a.cluster.Self()
	s := api.Status{
		Schema: api.SchemaStatus,
		AsOf:   a.cfg.Seams.Now().UTC(),
		Node: api.StatusNode{
			Name: a.cfg.Name, Instance: self.Instance.String(), Addr: self.Addr.String(), HTTPAddr: a.HTTPAddr(),
			Version: a.cfg.Version, PID: os.Getpid(), Mode: string(a.cfg.Mode),
			StartedAt: a.started.UTC(), State: a.phase.Load().(string),
		},
		Cluster: api.StatusCluster{
			Label: cs.Label, Alive: v.Count(cluster.Alive), Suspect: v.Count(cluster.Suspect),
			Failed: v.Count(cluster.Failed), Left: v.Count(cluster.Left),
			HealthScore: cs.HealthScore, Encrypted: cs.Encrypted, KeyFingerprint: cs.KeyFingerprint,
			HeartbeatLimitMS: cs.HeartbeatLimit.Milliseconds(), HeartbeatMaxAgeMS: cs.HeartbeatMax.Milliseconds(),
			Seeds: []api.StatusSeed{},
		},
		Selector: api.StatusSelector{Eligible: a.selector.Len()},
		Locks:    a.lockStatus(),
		Events:   a.events.bounds(),
		Warnings: a.warnings(v, cs),
	}
	s.Cluster.Size = s.Cluster.Alive + s.Cluster.Suspect + s.Cluster.Failed
	for _, seed := range cs.Seeds {
		out := api.StatusSeed{Addr: seed.Addr}
		if !seed.LastOK.IsZero() {
			t := seed.LastOK.UTC()
			out.LastOKAt = &t
		}
		if seed.Err != nil {
			out.LastError = oneLine(seed.Err)
		}
		s.Cluster.Seeds = append(s.Cluster.Seeds, out)
	}
	_, s.Checks = a.Ready()
	s.Verdict = a.verdict(s, v)
	return s
}

// verdict puts s into one sentence, worst first.
func (a *Agent) verdict(s api.Status, v *cluster.View) api.Verdict {
	out := api.Verdict{Reasons: []string{}}
	now := time.Now()
	for _, m := range v.Members {
		switch {
		case m.State == cluster.Failed:
			out.Reasons = append(out.Reasons, fmt.Sprintf("%s failed (%s) for %s", m.Name, m.Cause, brief(now.Sub(m.Since))))
		case m.State == cluster.Suspect:
			out.Reasons = append(out.Reasons, fmt.Sprintf("%s suspect (%s) for %s", m.Name, m.Cause, brief(now.Sub(m.Since))))
		case m.Shadowed:
			out.Reasons = append(out.Reasons, fmt.Sprintf("%s runs twice, also at %s", m.Name, m.Addr))
		}
	}
	for _, c := range s.Checks {
		if c.Status != "pass" {
			out.Reasons = append(out.Reasons, c.Text)
		}
	}
	out.OK = len(out.Reasons) == 0
	parts := []string{fmt.Sprintf("%d of %d peers alive", s.Cluster.Alive, s.Cluster.Size)}
	if s.Cluster.Size == 1 {
		parts[0] = "alone: 1 peer alive"
	}
	const most = 3
	parts = append(parts, out.Reasons[:min(most, len(out.Reasons))]...)
	if more := len(out.Reasons) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	switch {
	case s.Locks.Backend.Kind == "none":
		parts = append(parts, "no locks")
	case s.Locks.Backend.Up:
		parts = append(parts, "locks ok")
	}
	out.Text = strings.Join(parts, "; ")
	return out
}

// lockStatus tells how the shared Redis does.
func (a *Agent) lockStatus() api.StatusLocks {
	if a.locks == nil {
		return api.StatusLocks{Backend: api.LockBackend{Kind: "none"}}
	}
	st := a.locks.Stats()
	out := api.StatusLocks{Held: st.Held, Waiting: st.Waiting, Backend: api.LockBackend{
		Kind: "redis", Addr: st.Addr, Up: st.Up, LatencyMS: millis(st.Latency),
	}}
	if a.cfg.Mode == ModeDev {
		out.Backend.Kind = "embedded"
	}
	if st.LastError != nil && !st.Up {
		out.Backend.LastError = oneLine(st.LastError)
	}
	return out
}

// warnings gathers what an operator should mend though everything works.
func (a *Agent) warnings(v *cluster.View, cs cluster.Stats) []api.Warning {
	out := []api.Warning{}
	for _, w := range cs.Warnings {
		out = append(out, api.Warning{Code: w.Code, Text: w.Text, Fix: w.Fix})
	}
	if w := a.registry.warning; w != "" {
		out = append(out, api.Warning{Code: "services_damaged", Text: w, Fix: "register the services again, or mend the file and restart"})
	}
	if n := a.logDropped(cs); n > 0 {
		out = append(out, api.Warning{
			Code: "log_dropped", Text: fmt.Sprintf("%d lines of this agent's log were dropped: whoever reads its stderr does not keep up, or has gone", n),
			Fix: "mend the reader of the log (journald, the log driver, the pipe), or log less with log.level",
		})
	}
	for _, m := range v.Members {
		if m.Shadowed {
			out = append(out, api.Warning{
				Code: "conflict", Text: fmt.Sprintf("two live peers are called %s; the later one, at %s, is not handed out", m.Name, m.Addr),
				Fix: "give one of them another --name and restart it",
			})
		}
	}
	if a.cfg.Mode == ModeDev {
		out = append(out, api.Warning{
			Code: "dev", Text: "a development cluster: all peers and an embedded Redis in one process, all in memory",
			Fix: "run `peer agent` on each host, with --redis for the locks",
		})
	}
	if a.cfg.HTTP.Insecure && a.httpAddr != "" && !isLoopbackAddr(a.httpAddr) {
		out = append(out, api.Warning{
			Code: "http_insecure", Text: "whoever reaches " + a.httpAddr + " can command this agent",
			Fix: "set http.token_file and http.tls, or listen on 127.0.0.1",
		})
	}
	return out
}

// logDropped returns how many lines of the log nobody will read.
func (a *Agent) logDropped(cs cluster.Stats) uint64 {
	n := cs.LogDropped
	if f := a.cfg.Seams.LogDropped; f != nil {
		n += f()
	}
	return n
}

// Ready says whether this agent should get work, and check by check why.
func (a *Agent) Ready() (bool, []api.Check) {
	var checks []api.Check
	add := func(name, status, text string) {
		checks = append(checks, api.Check{Name: name, Status: status, Text: text})
	}

	cs := a.cluster.Stats()
	switch phase := a.phase.Load().(string); {
	case phase != "alive":
		add("gossip", "fail", "this peer is "+phase)
	case cs.CutOff:
		add("gossip", "warn", "no partner answers: this peer is cut off, or the last one")
	case cs.UDPBlocked:
		add("gossip", "warn", "degraded: peers answer by TCP but none by UDP")
	default:
		add("gossip", "pass", "gossip is up at "+a.GossipAddr())
	}

	answered := 0
	lastErr := ""
	for _, s := range cs.Seeds {
		if s.Err == nil && !s.LastOK.IsZero() {
			answered++
		} else if s.Err != nil {
			lastErr = oneLine(s.Err)
		}
	}
	switch n := len(cs.Seeds); {
	case n == 0 && !cs.Joined:
		add("joined", "pass", "alone, and told of no seeds")
	case cs.Joined || answered > 0:
		add("joined", "pass", fmt.Sprintf("%d peers known", len(a.cluster.View().Members)))
	case lastErr == "":
		add("joined", "fail", fmt.Sprintf("none of %d seeds has answered yet", n))
	default:
		add("joined", "fail", fmt.Sprintf("none of %d seeds answers: %s", n, lastErr))
	}

	if a.locks == nil {
		add("redis", "pass", "no Redis is configured, so there are no locks")
	} else if st := a.locks.Stats(); st.Up {
		add("redis", "pass", "Redis answers at "+st.Addr)
	} else {
		status, text := "warn", "locks do not work: Redis "+st.Addr+" has not answered yet"
		if st.LastError != nil {
			text = "locks do not work: " + oneLine(st.LastError)
		}
		if a.cfg.Ready.RequireRedis {
			status = "fail"
		}
		add("redis", status, text)
	}

	ready := true
	for _, c := range checks {
		ready = ready && c.Status != "fail"
	}
	return ready, checks
}

// Live says whether this process should be restarted; no peer and no Redis
// has a say in it. A process that answers is alive.
func (a *Agent) Live() error { return nil }

// oneLine makes an error fit a table cell.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// millis returns d for a _ms field, null when nothing was measured.
func millis(d time.Duration) *float64 {
	if d <= 0 {
		return nil
	}
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

// brief writes d as a person says it: 450ms, 12s, 3m, 5h, 2d.
func brief(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", max(d, 0).Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
