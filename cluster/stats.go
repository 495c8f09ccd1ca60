package cluster

import (
	"fmt"
	"time"
)

// Warning is something an operator should know, with the way to mend it.
type Warning struct {
	Code string // stable
	Text string
	Fix  string
}

// Stats are the figures of this package that are shown anywhere.
type Stats struct {
	Label          string
	Encrypted      bool
	KeyFingerprint string // of the key that encrypts; "" without one
	HealthScore    int    // memberlist's local health, 0 is best
	HeartbeatLimit time.Duration
	HeartbeatMax   time.Duration // the oldest among the alive
	Joined         bool          // another peer answered at least once
	CutOff         bool          // no partner answers: it is this peer that is cut off, or the last one
	UDPBlocked     bool          // peers answer by TCP and none by UDP
	Seeds          []SeedStat
	LogDropped     uint64 // lines that the reader of the log was too slow for
	Warnings       []Warning
}

// udpSilence is how long no ping by UDP may be answered while TCP works: many
// probes, of which there is one a second.
const udpSilence = 15 * time.Second

// Stats returns the figures as they are now.
func (c *Cluster) Stats() Stats {
	v := c.View()
	keys := c.keys.load()
	s := Stats{
		Label:          c.cfg.Label,
		Encrypted:      len(keys.keys) > 0 && keys.stage == stageStrict,
		HealthScore:    c.ml.GetHealthScore(),
		HeartbeatLimit: overdueAfter(v, c.ml.GetHealthScore()),
		Joined:         c.joined.Load() || len(v.Members) > 1,
		LogDropped:     c.lines.dropped.Load(),
		Warnings:       append([]Warning(nil), c.warnings...),
	}
	if len(keys.keys) > 0 {
		s.KeyFingerprint = keys.keys[0].print
	}
	now := time.Now()
	if w, ok := c.sealWarning(now); ok {
		s.Warnings = append(s.Warnings, w)
	}
	c.keyring.mu.Lock()
	if c.keyring.fault != nil {
		s.Warnings = append(s.Warnings, Warning{
			Code: "key_file", Text: "the gossip keys have changed and the key file has not: " + c.keyring.fault.Error(),
			Fix: "let this user write " + c.cfg.KeyFile + " and its directory, and rotate again, or copy another member's key file before this peer restarts",
		})
	}
	c.keyring.mu.Unlock()
	for _, m := range v.Members {
		if m.State == Alive && !m.Self {
			s.HeartbeatMax = max(s.HeartbeatMax, now.Sub(m.Heartbeat()))
		}
	}
	c.rec.mu.Lock()
	for _, t := range c.rec.seeds {
		s.Seeds = append(s.Seeds, SeedStat{Addr: t.seed.String(), LastOK: t.lastOK, Err: t.lastErr})
	}
	c.rec.mu.Unlock()
	c.mu.Lock()
	s.CutOff = c.cutOff
	if s.UDPBlocked = c.udpBlocked(now); s.UDPBlocked {
		s.Warnings = append(s.Warnings, Warning{
			Code: "udp_blocked", Text: "other peers answer by TCP but none by UDP: gossip is slow and its verdicts are late",
			Fix: fmt.Sprintf("let UDP through to and from port %d, as TCP is", c.trans.advertise.Port()),
		})
	}
	if c.saveErr != nil {
		s.Warnings = append(s.Warnings, Warning{
			Code: "data_dir", Text: "members are not kept: " + c.saveErr.Error(),
			Fix: "make room in " + c.cfg.DataDir + " and let this user write there",
		})
	}
	c.mu.Unlock()
	return s
}

// udpBlocked says whether a stream brings bytes while no ping was answered for
// long. The caller holds c.mu.
func (c *Cluster) udpBlocked(now time.Time) bool {
	if now.Sub(c.acked) < udpSilence || now.Sub(c.started) < udpSilence {
		return false
	}
	for _, r := range c.rows {
		if r.partner && r.m.State == Alive && now.Sub(r.m.Since) > udpSilence && (r.out != nil || r.in != nil) && now.Sub(r.heard) < silentAfter {
			return true
		}
	}
	return false
}

func (c *Cluster) setSaveErr(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saveErr = err
}
