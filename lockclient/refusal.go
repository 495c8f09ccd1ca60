package lockclient

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// A refusal is a reply of Redis that says no, in a sentence for people: without
// the hash of a script, a line of it, or Lua's words. It unwraps to what Redis said.
type refusal struct {
	text string
	err  error
}

func (e *refusal) Error() string { return e.text }
func (e *refusal) Unwrap() error { return e.err }

const (
	passwordFile = "this Redis wants a password: set the password file"
	rightsFix    = "give the ACL user the rights that the lock needs, see the package documentation"
	primaryFix   = "connect to the primary, not to a replica"
	proxyFix     = "connect to Redis itself: a proxy between must pass scripts, PUBLISH and SUBSCRIBE"
)

// replies are what Redis says when it refuses, by how that begins. %s in a text is
// what the reply has in quotes.
var replies = []struct {
	prefix string
	cause  Cause
	text   string
	fix    string
}{
	{"WRONGPASS", CausePassword, "it does not accept this user and password", "check the user name and the password file"},
	{"NOAUTH", CausePassword, "it was sent no password", passwordFile},
	{"ERR Protocol error: unauthenticated", CausePassword, "it was sent no password", passwordFile},
	{"ERR AUTH", CausePassword, "it was sent a password and has none", "this Redis has no password set: remove it from the settings"},
	{"ERR Client sent AUTH", CausePassword, "it was sent a password and has none", "this Redis has no password set: remove it from the settings"},
	{"ERR invalid password", CausePassword, "it does not accept this password", "check the password file"},
	{"NOPERM", CausePermission, "its user may not do this", rightsFix}, // see rightOf
	{"DENIED", CausePermission, "it is in protected mode and serves its own host only", "set a password there, or its bind"},
	{"READONLY", CauseReadOnly, "it is a replica and takes no writes", primaryFix},
	{"MISCONF", CauseReadOnly, "it takes no writes, for it cannot save them", "this Redis cannot save to its disk: see its log"},
	{"NOREPLICAS", CauseReadOnly, "it takes no writes with so few replicas", "this Redis has too few replicas to accept writes"},
	{"MASTERDOWN", CauseReadOnly, "it is a replica that has lost its primary", primaryFix},
	{"LOADING", CauseLoading, "it is reading its data", "wait until this Redis has read its data"},
	{"OOM", CauseMemory, "its memory is full", "raise maxmemory, or free memory"},
	{"WRONGTYPE", CauseWrongType, "another program's value is where a lock belongs", "change the prefix, or delete the key"}, // see explainAt
	{"ERR max number of clients", CauseClients, "it has as many clients as it takes", "raise maxclients there, or close connections that nobody needs"},
	{"ERR DB index is out of range", CauseDatabase, "it has no database of this number", "change the number at the end of the redis url: `CONFIG GET databases` says how many there are"},
	{"ERR invalid DB index", CauseDatabase, "it has no database of this number", "change the number at the end of the redis url"},
	{"ERR SELECT is not allowed in cluster mode", CauseDatabase, "it is a Cluster, which has no databases", "write redis+cluster:// in the redis url, and no number at its end"},
	{"ERR unknown command", CauseCommand, "it does not know the command %s", proxyFix},
	{"ERR Unknown Redis command called from", CauseCommand, "it does not know a command that the lock needs", "use Redis 6 or later, or Valkey"},
	{"MOVED", CauseOther, "it is one node of a Cluster", "write redis+cluster:// in the redis url"},
	{"CLUSTERDOWN", CauseOther, "the Cluster does not serve all its slots", "see CLUSTER INFO there"},
	{"BUSY", CauseOther, "it is busy with another program's script", "wait, or send it SCRIPT KILL"},
}

// refused explains a reply of Redis that says no.
func refused(err error, said string) (cause Cause, fix string, sentence error) {
	text := strings.TrimPrefix(bare(said), "-")
	for _, m := range replies {
		if !strings.HasPrefix(text, m.prefix) && !strings.Contains(text, ": "+m.prefix) && !strings.Contains(text, ": -"+m.prefix) {
			continue
		}
		words := m.text
		if strings.Contains(words, "%s") {
			words = fmt.Sprintf(words, quoted(text))
		}
		if m.prefix == "NOPERM" {
			words = rightOf(text)
		}
		return m.cause, m.fix, &refusal{words, err}
	}
	if strings.Contains(text, "ACL failure in script") || strings.Contains(text, "The user executing the script can't") {
		return CausePermission, rightsFix, &refusal{rightOf(text), err}
	}
	return CauseOther, "", &refusal{text, err}
}

var (
	// Redis before 7 says where in a script a command failed, then how; later ones
	// the other way round.
	scriptBefore = regexp.MustCompile(`^(?:ERR )?(?:Error running script \(call to \w+\): )?(?:@?user_script:\s?\d+: )+`)
	scriptAfter  = regexp.MustCompile(` script: \w+, on @user_script:\d+\.?$`)
	inQuotes     = regexp.MustCompile("['`]([A-Za-z0-9|_.-]+)['`]")
)

// bare is a reply without where in which script it was said.
func bare(said string) string {
	return scriptAfter.ReplaceAllString(scriptBefore.ReplaceAllString(said, ""), "")
}

// quoted is the command that text has in quotes.
func quoted(text string) string {
	if m := inQuotes.FindStringSubmatch(text); m != nil {
		return strings.ToUpper(m[1])
	}
	return "that was sent"
}

// rightOf says which right a user lacks.
func rightOf(text string) string {
	low := strings.ToLower(text)
	switch command := inQuotes.FindStringSubmatch(text); {
	case strings.Contains(low, "channel"):
		return "its user may not use the channels of the lock (&PREFIX*)"
	case strings.Contains(low, "key"):
		return "its user may not use the keys of the lock (~PREFIX*)"
	case command != nil && strings.Contains(low, "command"):
		return "its user may not run " + strings.ToUpper(command[1]) + " (+" + strings.ToLower(command[1]) + ")"
	}
	return "its user lacks a right"
}

// explainAt is explain for what was asked about the lock at key.
func (c *Client) explainAt(key string, err error) error {
	err = explain(c.addr, err)
	var u *UnavailableError
	if errors.As(err, &u) && u.Cause == CauseWrongType {
		u.Fix = foreignFix(key)
	}
	return err
}

func foreignFix(key string) string { return "change the prefix, or delete the key " + key }

// foreign is what the lock at key makes when its value is no lock's.
func (c *Client) foreign(key string) error {
	return &UnavailableError{Addr: c.addr, Cause: CauseWrongType, Err: errForeign, Fix: foreignFix(key)}
}

var errForeign = errors.New("another program's value is where a lock belongs")

// isForeign reports whether holder, of an answer, is no lock's value.
func isForeign(holder string) bool {
	if holder == "" {
		return false
	}
	_, ok := decodeValue(holder)
	return !ok
}

// A turnedAway is what Redis says to a connection before it closes it, whatever was
// asked.
type turnedAway struct{ said string }

func (e *turnedAway) Error() string { return e.said }

// A doorway is a connection whose first words may be that it is not let in. Else
// they would look like the reply to a greeting that may fail, and the refusal like
// a connection that breaks.
type doorway struct {
	net.Conn
	past atomic.Bool
}

// watched is a doorway to a connection that the kernel can be asked about.
type watched struct {
	*doorway
	syscall.Conn
}

func newDoorway(c net.Conn) net.Conn {
	d := &doorway{Conn: c}
	if raw, ok := c.(syscall.Conn); ok {
		return watched{d, raw}
	}
	return d
}

// Read returns a *turnedAway in place of such words.
func (d *doorway) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if n > 0 && !d.past.Swap(true) {
		line, _, _ := bytes.Cut(b[:n], []byte("\r\n"))
		if bytes.HasPrefix(line, []byte("-ERR max number of clients")) || bytes.HasPrefix(line, []byte("-DENIED")) {
			return 0, &turnedAway{string(line[1:])}
		}
	}
	return n, err
}

// replyIn returns what Redis itself said, in err.
func replyIn(err error) (said string, ok bool) {
	var r redis.Error
	var away *turnedAway
	switch {
	case errors.As(err, &away):
		return away.said, true
	case errors.As(err, &r):
		return r.Error(), true
	}
	return "", false
}
