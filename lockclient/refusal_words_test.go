package lockclient

import (
	"errors"
	"strings"
	"testing"
)

// Every refusal is a sentence of its own, whichever version of Redis says it, and
// from inside a script or not.
func TestRefusalWords(t *testing.T) {
	const sha = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct {
		said  string
		cause Cause
		text  string
	}{
		{"WRONGTYPE Operation against a key holding the wrong kind of value", CauseWrongType, "another program's value is where a lock belongs"},
		{"WRONGTYPE Operation against a key holding the wrong kind of value script: " + sha + ", on @user_script:115.", CauseWrongType, "another program's value is where a lock belongs"},
		{"ERR Error running script (call to f_" + sha + "): @user_script:115: WRONGTYPE Operation against a key holding the wrong kind of value", CauseWrongType, "another program's value is where a lock belongs"},
		{"ERR Error running script (call to f_" + sha + "): @user_script:7: @user_script: 7: -OOM command not allowed when used memory > 'maxmemory'.", CauseMemory, "its memory is full"},
		{"OOM command not allowed when used memory > 'maxmemory'. script: " + sha + ", on @user_script:3.", CauseMemory, "its memory is full"},
		{"READONLY You can't write against a read only replica. script: " + sha + ", on @user_script:3.", CauseReadOnly, "it is a replica and takes no writes"},
		{"NOPERM this user has no permissions to run the 'select' command", CausePermission, "its user may not run SELECT (+select)"},
		{"NOPERM User peer has no permissions to run the 'script|load' command", CausePermission, "its user may not run SCRIPT|LOAD (+script|load)"},
		{"NOPERM No permissions to access a key", CausePermission, "its user may not use the keys of the lock (~PREFIX*)"},
		{"NOPERM this user has no permissions to access one of the channels used as arguments", CausePermission, "its user may not use the channels of the lock (&PREFIX*)"},
		{"ERR ACL failure in script: User peer has no permissions to run the 'getset' command script: " + sha + ", on @user_script:9.", CausePermission, "its user may not run GETSET (+getset)"},
		{"ERR The user executing the script can't run this command or subcommand", CausePermission, "its user lacks a right"},
		{"ERR Error running script (call to f_" + sha + "): @user_script:5: The user executing the script can't access at least one of the keys mentioned in the command arguments", CausePermission, "its user may not use the keys of the lock (~PREFIX*)"},
		{"ERR max number of clients reached", CauseClients, "it has as many clients as it takes"},
		{"ERR DB index is out of range", CauseDatabase, "it has no database of this number"},
		{"ERR unknown command 'SUBSCRIBE', with args beginning with: 'peer:process:a'", CauseCommand, "it does not know the command SUBSCRIBE"},
		{"ERR unknown command `subscribe`, with args beginning with: `x`, ", CauseCommand, "it does not know the command SUBSCRIBE"},
		{"ERR unknown command", CauseCommand, "it does not know the command that was sent"},
		{"MOVED 3999 127.0.0.1:6381", CauseOther, "it is one node of a Cluster"},
		{"ERR this is new script: " + sha + ", on @user_script:115.", CauseOther, "ERR this is new"},
	} {
		cause, fix, err := refused(errors.New(tt.said), tt.said)
		if cause != tt.cause || err.Error() != tt.text {
			t.Errorf("%s\n got %q: %q\nwant %q: %q", tt.said, cause, err, tt.cause, tt.text)
		}
		if cause != CauseOther && fix == "" {
			t.Errorf("%s: no fix", tt.said)
		}
		if errors.Unwrap(err).Error() != tt.said {
			t.Errorf("does not unwrap to %s", tt.said)
		}
	}
	for _, m := range replies {
		if strings.ContainsAny(m.text, "@") || m.text == "" || m.fix == "" {
			t.Errorf("%s: %q, fix %q", m.prefix, m.text, m.fix)
		}
	}
}
