package lockclient

import (
	"context"
	"crypto/sha1" // what EVALSHA names scripts by
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed *.lua
var luaFiles embed.FS

var (
	acquireScript     = newScript("acquire.lua")
	releaseScript     = newScript("release.lua")
	batchScript       = newScript("batch.lua")
	leaveScript       = newScript("leave.lua")
	renewScript       = newScript("renew.lua")
	renewSharedScript = newScript("renewshared.lua")
	beatScript        = newScript("beat.lua")
	inspectScript     = newScript("inspect.lua")
	forceScript       = newScript("force.lua")

	// What a holder and a waiter will need soon.
	usualScripts = []*script{batchScript, acquireScript, releaseScript, leaveScript, renewScript, renewSharedScript, beatScript}
)

// A script is one that the server may know by its hash already.
type script struct {
	name, source, hash string
}

// newScript reads a script with the files it includes, without comments: the
// server keeps the text.
func newScript(file string) *script {
	source := luaSource(file)
	sum := sha1.Sum([]byte(source))
	return &script{name: file, source: source, hash: hex.EncodeToString(sum[:])}
}

func luaSource(file string) string {
	b, err := luaFiles.ReadFile(file)
	if err != nil {
		panic(err) // it is embedded
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		trimmed := strings.TrimSpace(line)
		if include, ok := strings.CutPrefix(trimmed, "--#include "); ok {
			out.WriteString(luaSource(include))
		} else if trimmed != "" && !strings.HasPrefix(trimmed, "--") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// argKeys is where the keys begin in the arguments of EVALSHA, and argOwn where
// those begin that are a script's own.
const (
	argKeys = 3
	argOwn  = argKeys + len(keys{})
)

// arguments returns room for EVALSHA with the keys k and n arguments of a
// script's own, to be set from argOwn on. k must outlive it. Pointers cost
// nothing to put into an interface; the first key is what a cluster goes by.
func arguments(k *keys, n int) []any {
	a := make([]any, argOwn+n)
	a[0], a[2] = "evalsha", "5"
	a[argKeys] = k[0]
	for i := 1; i < len(k); i++ {
		a[argKeys+i] = &k[i]
	}
	return a
}

// run sends s, and returns its answer or what explain makes of the error. It
// goes on when ctx is cancelled, and ends when ctx's deadline passes. args are
// from arguments, and not kept.
func (c *Client) run(ctx context.Context, rdb redis.UniversalClient, s *script, args []any) (string, error) {
	args[1] = &s.hash
	cmd := redis.NewStringCmd(ctx, args...)
	err := c.exec(ctx, rdb, s, cmd)
	if err == errSource {
		cmd = redis.NewStringCmd(ctx, s.withSource(args)...)
		err = rdb.Process(ctx, cmd)
	}
	if q, ok := ctx.(*question); ok && err != nil && q.left.Load() {
		return "", err // which says nothing of Redis
	}
	if err != nil {
		err = c.explainAt(args[argKeys].(string), err)
	}
	c.heard(ctx, err)
	return cmd.Val(), err
}

// runSlice is run for a script that answers with an array.
func (c *Client) runSlice(ctx context.Context, rdb redis.UniversalClient, s *script, args []any) ([]any, error) {
	args[1] = &s.hash
	cmd := redis.NewSliceCmd(ctx, args...)
	err := c.exec(ctx, rdb, s, cmd)
	if err == errSource {
		cmd = redis.NewSliceCmd(ctx, s.withSource(args)...)
		err = rdb.Process(ctx, cmd)
	}
	if err != nil {
		err = c.explainAt(args[argKeys].(string), err)
	}
	c.heard(ctx, err)
	return cmd.Val(), err
}

// errSource: the server does not know the script, it must be sent.
var errSource = errors.New("script not known")

// teach sends the server all scripts, in the background: one that does not know
// one knows none, and a renewal may have no time to lose.
func (c *Client) teach() {
	if !c.teaching.CompareAndSwap(false, true) {
		return
	}
	c.background(func() {
		defer c.teaching.Store(false)
		pipe := c.calls.Pipeline()
		for _, s := range usualScripts {
			pipe.ScriptLoad(c.life, s.source)
		}
		pipe.Exec(c.life) // if it may not, each script is sent when it is needed
	})
}

func (s *script) withSource(args []any) []any {
	args = append([]any(nil), args...)
	args[0], args[1] = "eval", &s.source
	return args
}

// errReply is what a reply of another shape than its script's makes.
func errReply(s *script, reply any) error {
	return fmt.Errorf("decode the answer of %s: unexpected %q", s.name, reply)
}
