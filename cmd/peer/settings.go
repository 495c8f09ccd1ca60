package main

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/urfave/cli/v2"
)

// defaultConfig is read when it is there and nobody names another file.
const defaultConfig = "/etc/peer/peer.yaml"

// settingFlags maps the flags of `peer agent` to the settings that they set.
// Every setting has a variable too, named by its path: PEER_HTTP_ADDR.
var settingFlags = []struct{ flag, path, usage string }{
	{"name", "name", "`NAME` of this peer, unique in the cluster (default: the host name)"},
	{"bind", "bind", "gossip at `HOST:PORT`, UDP and TCP (default 127.0.0.1:7946; with a key 0.0.0.0:7946)"},
	{"advertise", "advertise", "tell others to reach this peer at `HOST[:PORT]` (default: found from the routes)"},
	{"join", "join", "join the cluster through `HOST[:PORT]`, and try for ever; repeatable"},
	{"cluster", "cluster", "`LABEL` that keeps clusters apart"},
	{"tag", "tags", "tag this peer with `K=V`; repeatable"},
	{"data-dir", "data_dir", "keep the members ever seen in `DIR`, so that a full outage heals without seeds"},
	{"encrypt-file", "encrypt_file", "read the gossip key from `FILE` (see peer keygen)"},
	{"gossip-insecure", "gossip_insecure", "allow gossip beyond loopback without a key, on a network you trust"},
	{"http", "http.addr", "local endpoint and page at `HOST:PORT`, or none (default 127.0.0.1:7980)"},
	{"socket", "http.socket", "local endpoint at the unix socket `PATH` too"},
	{"http-insecure", "http.insecure", "allow the endpoint beyond loopback without token and TLS, on a network you trust"},
	{"dns", "dns.addr", "answer names of peers and services in DNS at `HOST:PORT`, such as 127.0.0.1:8600 (default: none)"},
	{"consul", "consul.addr", "answer Consul's reads of services at `HOST:PORT`, such as 127.0.0.1:8500 (default: none)"},
	{"redis", "redis.url", "keep locks in the Redis at `URL`; no password in it, see PEER_REDIS_URL"},
	{"wait-replicas", "redis.wait_replicas", "a lock is granted when `N` replicas of the Redis know of it (default 0)"},
	{"log-level", "log.level", "`LEVEL` trace, debug, info, warn or error"},
	{"log-format", "log.format", "`FORMAT` text or json"},
}

// flagsOf returns the flags that set these paths, or all of them.
func flagsOf(paths ...string) []cli.Flag {
	var out []cli.Flag
	c := reflect.ValueOf(agent.Config{})
	for _, s := range settingFlags {
		if len(paths) > 0 && !slices.Contains(paths, s.path) {
			continue
		}
		usage := s.usage + " [$" + variable(s.path) + "]"
		switch leafType(c, s.path).Kind() {
		case reflect.Slice, reflect.Map:
			out = append(out, &cli.StringSliceFlag{Name: s.flag, Usage: strings.Replace(usage, "; repeatable", "", 1)})
		case reflect.Bool:
			out = append(out, &cli.BoolFlag{Name: s.flag, Usage: usage})
		default:
			out = append(out, &cli.StringFlag{Name: s.flag, Usage: usage})
		}
	}
	return append(out, &cli.StringFlag{Name: "config", Usage: "read the settings in `FILE`, and in conf.d beside it (default " + defaultConfig + " if it is there) [$PEER_CONFIG]"})
}

func leafType(c reflect.Value, path string) reflect.Type {
	for p, v := range leaves(c) {
		if p == path {
			return v.Type()
		}
	}
	panic("no setting " + path)
}

// leaves walks through every setting of c that holds one value or a list, with
// its path in peer.yaml.
func leaves(c reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) { walk(c, "", yield) }
}

func walk(c reflect.Value, prefix string, yield func(string, reflect.Value) bool) bool {
	for i := range c.NumField() {
		name, _, _ := strings.Cut(c.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		v := c.Field(i)
		switch v.Kind() {
		case reflect.Struct:
			if !walk(v, prefix+name+".", yield) {
				return false
			}
			continue
		case reflect.Slice:
			if v.Type().Elem().Kind() != reflect.String {
				continue // services are for the file
			}
		}
		if !yield(prefix+name, v) {
			return false
		}
	}
	return true
}

// variable is the environment variable of a setting.
func variable(path string) string {
	return "PEER_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// settings builds the agent's configuration: flags over environment over file.
// All mistakes are reported at once, with exit code 78.
func (inv *invocation) settings() (agent.Config, error) {
	var c agent.Config
	var errs []error
	path, named := inv.configPath(inv.flag("config"))
	if path != "" {
		var err error
		c, err = agent.ReadConfigFile(path)
		if err != nil && (named || !errors.Is(err, fs.ErrPermission)) {
			errs = append(errs, err)
		}
	}
	for path, v := range leaves(reflect.ValueOf(&c).Elem()) {
		if s := inv.env(variable(path)); s != "" {
			if err := set(v, []string{s}, true); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", variable(path), err))
			}
		}
		for _, f := range settingFlags {
			if f.path != path || !inv.has(f.flag) {
				continue
			}
			if err := set(v, inv.given(f.flag, v.Kind()), v.Kind() == reflect.Slice); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", f.flag, err))
			}
		}
	}
	if inv.has("redis") && hasPassword(inv.flag("redis")) {
		return c, inv.usage("--redis carries a password, which everybody on this host can read in the list of processes; put the URL into PEER_REDIS_URL, or the password into redis.password_file")
	}
	if err := errors.Join(errs...); err != nil {
		return c, withCode(exitConfig, err)
	}
	return c, nil
}

func (inv *invocation) given(flag string, kind reflect.Kind) []string {
	switch kind {
	case reflect.Slice, reflect.Map:
		return inv.flags(flag)
	case reflect.Bool:
		return []string{strconv.FormatBool(inv.cli.Bool(flag))}
	}
	return []string{inv.flag(flag)}
}

// set writes values, given by one layer, over what lies below it. Tags are
// merged, key by key.
func set(v reflect.Value, values []string, commas bool) error {
	if commas && (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) {
		values = splitAll(values)
	}
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.ValueOf(values))
		return nil
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for _, kv := range values {
			k, val, ok := strings.Cut(kv, "=")
			if !ok || k == "" {
				return fmt.Errorf("%q: want KEY=VALUE", kv)
			}
			v.SetMapIndex(reflect.ValueOf(k), reflect.ValueOf(val))
		}
		return nil
	case reflect.String:
		v.SetString(values[0])
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(values[0])
		if err != nil {
			return fmt.Errorf("%q: want true or false", values[0])
		}
		v.SetBool(b)
		return nil
	case reflect.Int64:
		if v.Type() == reflect.TypeFor[time.Duration]() {
			d, err := time.ParseDuration(values[0])
			if err != nil || d < 0 {
				return fmt.Errorf("%q: want a duration such as 500ms, 10s or 72h", values[0])
			}
			v.SetInt(int64(d))
			return nil
		}
		fallthrough
	case reflect.Int:
		n, err := strconv.ParseInt(values[0], 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q: want a whole number", values[0])
		}
		v.SetInt(n)
		return nil
	}
	return errors.New("can only be set in the file")
}

// configPath returns the configuration file to read, if any, and whether
// somebody asked for it by name.
func (p *program) configPath(flag string) (path string, named bool) {
	if flag != "" {
		return flag, true
	}
	if v := p.env("PEER_CONFIG"); v != "" {
		return v, true
	}
	if _, err := os.Stat(defaultConfig); err == nil {
		return defaultConfig, false
	}
	return "", false
}

// strayVariables returns a line for every PEER_ variable that is no setting but
// looks like one that was misspelt.
func (p *program) strayVariables() []string {
	known := []string{"PEER_CONFIG"}
	for path := range leaves(reflect.ValueOf(agent.Config{})) {
		known = append(known, variable(path))
	}
	var out []string
	for _, kv := range p.environ {
		k, v, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(k, "PEER_") || v == "" || slices.Contains(known, k) {
			continue
		}
		if near := nearest(k[len("PEER_"):], trimmed(known)); near != "" {
			out = append(out, fmt.Sprintf("the variable %s sets nothing; did you mean PEER_%s?", k, near))
		}
	}
	return out
}

func trimmed(variables []string) []string {
	out := make([]string, len(variables))
	for i, v := range variables {
		out[i] = strings.TrimPrefix(v, "PEER_")
	}
	return out
}

func hasPassword(redis string) bool {
	u, err := url.Parse(redis)
	if err != nil || u.User == nil {
		return false
	}
	pw, ok := u.User.Password()
	return ok && pw != ""
}
