package api_test

import (
	"testing"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/cluster"
)

func TestStateText(t *testing.T) {
	const addr = "10.0.0.2:7946"
	for _, tt := range []struct {
		state cluster.State
		cause cluster.Cause
		want  string
	}{
		{cluster.Alive, cluster.CauseNone, "alive"},
		{cluster.Alive, cluster.CauseConflict, "alive (conflict)"},
		{cluster.Suspect, cluster.CauseNone, "suspect"},
		{cluster.Suspect, cluster.CauseOverdue, "suspect: overdue"},
		{cluster.Suspect, cluster.CauseUnreachable, "suspect: unreachable at 10.0.0.2:7946"},
		{cluster.Suspect, cluster.CauseStalled, "suspect: was held up"},
		{cluster.Suspect, cluster.CauseLossy, "suspect: loses packets"},
		{cluster.Suspect, cluster.CauseMute, "suspect: is not heard"},
		{cluster.Suspect, cluster.CauseDeaf, "suspect: hears nobody"},
		{cluster.Suspect, "of-a-later-version", "suspect: of-a-later-version"},
		{cluster.Failed, cluster.CauseUnreachable, "failed (unreachable)"},
		{cluster.Failed, cluster.CauseCrashed, "failed (crashed)"},
		{cluster.Left, cluster.CauseLeft, "left"},
	} {
		if got := api.StateText(string(tt.state), string(tt.cause), addr); got != tt.want {
			t.Errorf("%s, %s: got %q, want %q", tt.state, tt.cause, got, tt.want)
		}
	}
}
