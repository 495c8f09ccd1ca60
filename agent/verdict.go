package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

const (
	// mostReasons is how many reasons the verdict's sentence has, and mostNamed how
	// many names or seeds one reason has: two lines of a terminal.
	mostReasons = 3
	mostNamed   = 3
)

// verdict puts s into one sentence: this peer's own trouble first, then that of the
// members in v, of those that are missing, and of readiness.
func verdict(s api.Status, v *cluster.View, now time.Time) api.Verdict {
	reasons := []string{}
	for _, m := range v.Members {
		why := trouble(m, now)
		switch {
		case why != "" && m.Self:
			reasons = append([]string{why}, reasons...)
		case why != "":
			reasons = append(reasons, why)
		}
	}
	if len(s.Cluster.Unseen) > 0 {
		names := make([]string, 0, len(s.Cluster.Unseen))
		for _, u := range s.Cluster.Unseen {
			names = append(names, u.Name)
		}
		reasons = append(reasons, several(names, ", ", " and ")+" remembered, not seen since this start")
	}
	for _, c := range s.Checks {
		if c.Status != "pass" {
			reasons = append(reasons, c.Text)
		}
	}
	alive := fmt.Sprintf("%d of %d peers alive", s.Cluster.Alive, s.Cluster.Size)
	if s.Cluster.Size == 1 {
		alive = "alone: 1 peer alive"
	}
	parts := append([]string{alive}, reasons[:min(mostReasons, len(reasons))]...)
	if more := len(reasons) - mostReasons; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	switch {
	case s.Locks.Backend.Kind == "none":
		parts = append(parts, "no locks")
	case s.Locks.Backend.Up:
		parts = append(parts, "locks ok")
	}
	return api.Verdict{OK: len(reasons) == 0, Text: strings.Join(parts, "; "), Reasons: reasons}
}

// trouble says what is wrong with m, "" when nothing is.
func trouble(m cluster.Member, now time.Time) string {
	lasting := brief(now.Sub(m.Since))
	why := api.CauseText(string(m.State), string(m.Cause), m.Addr.String())
	switch {
	case m.State == cluster.Failed:
		return fmt.Sprintf("%s failed (%s) for %s", m.Name, why, lasting)
	case m.State == cluster.Suspect && m.Self:
		return fmt.Sprintf("this peer is out of rotation: %s, for %s", why, lasting)
	case m.State == cluster.Suspect:
		return fmt.Sprintf("%s suspect: %s, for %s", m.Name, why, lasting)
	case m.Shadowed:
		return fmt.Sprintf("%s runs twice, also at %s", m.Name, m.Addr)
	}
	return ""
}

// several lists the first few of what, and says how many more there are.
func several(what []string, comma, and string) string {
	out := strings.Join(what[:min(mostNamed, len(what))], comma)
	if more := len(what) - mostNamed; more > 0 {
		out += fmt.Sprintf("%s%d more", and, more)
	}
	return out
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
