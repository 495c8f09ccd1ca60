package api

// Causes say why a member is not simply alive: Member.Cause is one of them, or
// "". A client takes one that it does not know for a word to show.
const (
	CauseOverdue     = "overdue"     // suspect: most of those that watch it do not hear it
	CauseUnreachable = "unreachable" // failed: the verdict of SWIM; suspect: nobody can dial the address that it advertises
	CauseCrashed     = "crashed"     // failed: its process is gone, by its kernel's word
	CauseStalled     = "stalled"     // suspect, by its own word: it was held up
	CauseLossy       = "lossy"       // suspect, by its own word: its packets are lost
	CauseMute        = "mute"        // suspect, by its own word: the others do not hear it
	CauseDeaf        = "deaf"        // suspect, by its own word: it hears nobody
	CauseLeft        = "left"        // left
	CauseConflict    = "conflict"    // alive: another live instance has its name
)

// CauseText says in plain English why a member in state is not alive, "" when the
// state says it all. A cause that is not known here stays the word that it is. addr
// is the address that the member advertises.
func CauseText(state, cause, addr string) string {
	if cause == state {
		return ""
	}
	if state != "suspect" {
		return cause
	}
	switch cause {
	case CauseUnreachable:
		return "unreachable at " + addr
	case CauseStalled:
		return "was held up"
	case CauseLossy:
		return "loses packets"
	case CauseMute:
		return "is not heard"
	case CauseDeaf:
		return "hears nobody"
	}
	return cause
}

// StateText is a state with its cause in plain English: "failed (crashed)",
// "suspect: hears nobody", "alive".
func StateText(state, cause, addr string) string {
	why := CauseText(state, cause, addr)
	switch {
	case why == "":
		return state
	case state == "suspect":
		return state + ": " + why
	}
	return state + " (" + why + ")"
}
