package agent

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/peerhq/peer/cluster"
)

// newMetrics registers what this agent measures. Labels are bounded: a member's
// name is never one.
func (a *Agent) newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{a})
	if a.locks != nil {
		r.MustRegister(a.locking.acquire, a.locking.lost)
	}
	return r
}

// collector draws the metrics from the agent's one Status.
type collector struct{ a *Agent }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("peer_"+name, help, labels, nil)
}

var (
	descBuild      = desc("build_info", "The version of the binary; always 1.", "version", "goversion", "mode")
	descMembers    = desc("members", "Members by state, as this peer sees them.", "state")
	descEligible   = desc("eligible", "Peers that the selector hands out.")
	descHealth     = desc("gossip_health_score", "memberlist's local health: 0 is best.")
	descEncrypted  = desc("gossip_encrypted", "1 when gossip is encrypted.")
	descAge        = desc("heartbeat_age_seconds", "Age of the oldest heartbeat among the alive members.")
	descAgeLimit   = desc("heartbeat_limit_seconds", "Age at which a member counts as overdue.")
	descEvents     = desc("events_total", "Events since the start.")
	descSuspicions = desc("suspicions_total", "How often a member left rotation, as this peer sees it.")
	descFlaps      = desc("flaps_total", "How often a member came back into rotation, as this peer sees it.")
	descStalls     = desc("stalls_total", "How often this process was held up for a second or more.")
	descStalled    = desc("stall_seconds_total", "For how long this process was held up, in stalls of a second or more.")
	descUnseen     = desc("members_unseen", "Members of an earlier run that were not seen since this start.")
	descTable      = desc("table_entries", "Instances in the table of members, the departed included.")
	descPicks      = desc("selector_picks_total", "Turns taken over HTTP.", "result")
	descLogLost    = desc("log_lines_dropped_total", "Lines of the log that were dropped because its reader did not keep up, or has gone.")
	descReady      = desc("ready", "1 when this agent is ready.")
	descRedis      = desc("redis_up", "1 when the shared Redis answers.")
	descLatency    = desc("redis_latency_seconds", "Round trip of the last ping to the shared Redis.")
	descHeld       = desc("locks_held", "Locks that this agent holds.")
	descWaiting    = desc("locks_waiting", "Places in queues that this agent has.")
	descAcquired   = desc("lock_acquired_total", "Locks acquired by this agent.")
	descRenewed    = desc("lock_renewals_total", "Renewals by this agent.", "result")
)

// Describe sends nothing, which makes the collector an unchecked one: without a
// Redis it has no lock metrics.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect is called for each scrape.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	s := c.a.Status(context.Background())
	gauge(descBuild, 1, s.Node.Version, runtime.Version(), s.Node.Mode)
	gauge(descMembers, float64(s.Cluster.Alive), string(cluster.Alive))
	gauge(descMembers, float64(s.Cluster.Suspect), string(cluster.Suspect))
	gauge(descMembers, float64(s.Cluster.Failed), string(cluster.Failed))
	gauge(descMembers, float64(s.Cluster.Left), string(cluster.Left))
	gauge(descEligible, float64(s.Selector.Eligible))
	gauge(descHealth, float64(s.Cluster.HealthScore))
	gauge(descEncrypted, oneIf(s.Cluster.Encrypted))
	gauge(descAge, float64(s.Cluster.HeartbeatMaxAgeMS)/1000)
	gauge(descAgeLimit, float64(s.Cluster.HeartbeatLimitMS)/1000)
	count(descEvents, float64(s.Events.Seq))
	count(descSuspicions, float64(s.Cluster.Suspicions))
	count(descFlaps, float64(s.Cluster.Flaps))
	count(descStalls, float64(s.Cluster.Stalls))
	count(descStalled, float64(s.Cluster.StalledMS)/1000)
	gauge(descUnseen, float64(len(s.Cluster.Unseen)))
	gauge(descTable, float64(s.Cluster.TableEntries))
	count(descPicks, float64(c.a.served.ok.Load()), "ok")
	count(descPicks, float64(c.a.served.none.Load()), "none")
	count(descLogLost, float64(s.Node.LogLinesDropped))
	gauge(descReady, oneIf(ready(s.Checks)))
	if c.a.locks == nil {
		return
	}
	st := c.a.locks.Stats()
	gauge(descRedis, oneIf(st.Up))
	gauge(descLatency, st.Latency.Seconds())
	gauge(descHeld, float64(st.Held))
	gauge(descWaiting, float64(st.Waiting))
	count(descAcquired, float64(st.Acquired))
	count(descRenewed, float64(st.Renewed), "ok")
	count(descRenewed, float64(st.RenewFailed), "failed")
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
