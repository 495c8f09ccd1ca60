package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
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
			Trouble: string(cs.Trouble), DampedMS: cs.Damped.Milliseconds(), LogLinesDropped: a.logDropped(cs),
		},
		Cluster: api.StatusCluster{
			Label: cs.Label, Alive: v.Count(cluster.Alive), Suspect: v.Count(cluster.Suspect),
			Failed: v.Count(cluster.Failed), Left: v.Count(cluster.Left),
			HealthScore: cs.HealthScore, Encrypted: cs.Encrypted, KeyFingerprint: cs.KeyFingerprint,
			HeartbeatLimitMS: cs.HeartbeatLimit.Milliseconds(), HeartbeatMaxAgeMS: cs.HeartbeatMax.Milliseconds(),
			Seeds: []api.StatusSeed{}, Unseen: unseen(cs.Unseen, a.started.UTC()), TableEntries: cs.TableEntries,
			Suspicions: cs.Suspicions, Flaps: cs.Flaps, Stalls: cs.Stalls, StalledMS: cs.StalledFor.Milliseconds(),
		},
		Selector: api.StatusSelector{Eligible: a.selector.Len()},
		Locks:    a.lockStatus(),
		Events:   a.events.bounds(),
		Warnings: a.warnings(v, cs),
	}
	s.Cluster.Size = s.Cluster.Alive + s.Cluster.Suspect + s.Cluster.Failed + len(s.Cluster.Unseen)
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
	s.Checks = a.checkReady(v, cs)
	s.Verdict = verdict(s, v, time.Now())
	return s
}

// unseen draws those of remembered that had not left, sorted by name.
func unseen(remembered []cluster.Remembered, since time.Time) []api.StatusUnseen {
	out := []api.StatusUnseen{}
	for _, r := range remembered {
		if !r.Left {
			out = append(out, api.StatusUnseen{Name: r.Name, Addr: r.Addr.String(), AbsentMS: r.Absent.Milliseconds(), Since: since})
		}
	}
	slices.SortFunc(out, func(a, b api.StatusUnseen) int { return strings.Compare(a.Name, b.Name) })
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
	out = append(out, nameCase(v)...)
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

// nameCase warns of live members whose names differ in case only.
func nameCase(v *cluster.View) (out []api.Warning) {
	first := map[string]string{}
	for _, m := range v.Members {
		if m.State != cluster.Alive && m.State != cluster.Suspect {
			continue
		}
		key := strings.ToLower(m.Name)
		other, ok := first[key]
		if !ok {
			first[key] = m.Name
			continue
		}
		if other != m.Name {
			out = append(out, api.Warning{
				Code: "name_case", Text: fmt.Sprintf("the names of the live peers %s and %s differ in case only, and DNS takes them for one", other, m.Name),
				Fix: "give one of them another --name and restart it",
			})
		}
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
