// SPDX-License-Identifier: Apache-2.0

// Package launch holds the start parameters of a TA or a UA. The owner signs them: they travel as the invoke-args parameter
// (suit-manifest section 8.4.8.14, parameter 23) of the manifest, are expanded where the program starts, by the Agent for
// a TA and by the Broker for a UA, and are opaque to everything between.
package launch

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sealift/cose"
)

// How a TA serves (Spec.Serve).
const (
	ServeSocket = "socket" // it listens on the Unix socket SEALIFT_LISTEN
	ServeStdio  = "stdio"  // one process per request, with the request on stdin and the answer on stdout
)

// Who may call a TA (Spec.Callers).
const (
	CallersOwner = "owner" // whoever proves by a TLS client certificate to hold the key that signed the TA's manifest
	CallersAny   = "any"
)

// What happens when the program ends (Spec.Restart).
const (
	RestartAlways    = "always"
	RestartOnFailure = "on-failure"
	RestartNever     = "never"
)

// What a payload is (Spec.Kind).
const (
	KindProgram = "program" // a static executable
	KindOCI     = "oci"     // a container image, as package oci writes it
	KindWASM    = "wasm"    // a WebAssembly module for WASI preview 1
	KindGuest   = "guest"   // a guest payload, as package initramfs writes it: a vm is booted with it
)

// Names of the environment variables that an application sees.
const (
	EnvListen = "SEALIFT_LISTEN"     // TA: the Unix socket to serve on
	EnvPD     = "SEALIFT_PD"         // TA: the directory with the released data
	EnvAttest = "SEALIFT_ATTEST"     // TA: the Unix socket that gives Evidence for a nonce
	EnvTA     = "SEALIFT_TA"         // UA: the Unix socket that reaches the TA
	EnvAsk    = "SEALIFT_REQUEST_TA" // UA: the Unix socket on which it asks for its TA
	EnvPort   = "SEALIFT_PORT"       // UA: number of its first published port; SEALIFT_PORT_NAME for a named one
	EnvHost   = "SEALIFT_HOST"       // UA: address on which the device publishes ports
)

// Bounds on a Spec, checked by Validate.
const (
	MaxBytes = 32 << 10
	MaxArgs  = 256
	MaxPorts = 16
)

// ErrInvalid is wrapped by every error about the content of a Spec.
var ErrInvalid = errors.New("launch: invalid start parameters")

// Port is an address that a UA publishes in the REE.
type Port struct {
	Name string `cbor:"1,keyasint" json:"name"`
	Port uint16 `cbor:"2,keyasint,omitempty" json:"port,omitempty"` // 0: any free one
}

// Spec are the start parameters of one program. The zero value of a field means the default named beside it.
type Spec struct {
	Args        []string `cbor:"1,keyasint,omitempty" json:"args,omitempty"`        // after the program's own name; may hold ${...}, see Expand
	Env         []string `cbor:"2,keyasint,omitempty" json:"env,omitempty"`         // "NAME=value", no SEALIFT_ names
	Serve       string   `cbor:"3,keyasint,omitempty" json:"serve,omitempty"`       // TA: ServeSocket (default) or ServeStdio
	Callers     string   `cbor:"4,keyasint,omitempty" json:"callers,omitempty"`     // TA: CallersOwner (default) or CallersAny
	Ports       []Port   `cbor:"5,keyasint,omitempty" json:"ports,omitempty"`       // UA
	MemoryBytes uint64   `cbor:"6,keyasint,omitempty" json:"memoryBytes,omitempty"` // address space; 0: the platform's limit
	MaxProcs    uint32   `cbor:"7,keyasint,omitempty" json:"maxProcs,omitempty"`    // processes and threads; 0: the platform's limit
	CPUSeconds  uint64   `cbor:"8,keyasint,omitempty" json:"cpuSeconds,omitempty"`  // of one process; 0: no limit
	Restart     string   `cbor:"9,keyasint,omitempty" json:"restart,omitempty"`     // RestartAlways (default), RestartOnFailure, RestartNever
	// Name is the program's own name, its argument number 0; default "ta" or "ua". Programs like busybox choose by it what they are.
	Name string `cbor:"10,keyasint,omitempty" json:"name,omitempty"`
	// Kind says what the payload is: KindProgram (default), KindOCI, KindWASM or KindGuest.
	Kind string `cbor:"11,keyasint,omitempty" json:"kind,omitempty"`
	// Entrypoint takes the place of the image's Entrypoint and Cmd; Args then that of Cmd. In a guest payload it names the program, by
	// its absolute path there, and arguments that stand before Args. KindOCI and KindGuest only; what follows is for KindOCI.
	Entrypoint []string `cbor:"12,keyasint,omitempty" json:"entrypoint,omitempty"`
	// Dir is the working directory, in place of the image's.
	Dir string `cbor:"13,keyasint,omitempty" json:"dir,omitempty"`
	// CPUMillis is how much of the device's processors it gets, in thousandths of one; 0: no limit.
	CPUMillis uint32 `cbor:"14,keyasint,omitempty" json:"cpuMillis,omitempty"`
}

// Marshal returns the deterministic CBOR of s.
func (s Spec) Marshal() []byte { return cose.MustMarshal(s) }

// Parse decodes and checks a Spec and fills in the defaults. No bytes at all are a Spec of defaults: invoke-args is an optional
// parameter.
func Parse(data []byte) (Spec, error) {
	var s Spec
	if len(data) > MaxBytes {
		return Spec{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(data))
	}
	if len(data) > 0 {
		if err := cose.Unmarshal(data, &s); err != nil {
			return Spec{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	s = s.withDefaults()
	return s, s.Validate()
}

func (s Spec) withDefaults() Spec {
	if s.Serve == "" {
		s.Serve = ServeSocket
	}
	if s.Callers == "" {
		s.Callers = CallersOwner
	}
	if s.Restart == "" {
		s.Restart = RestartAlways
	}
	if s.Kind == "" {
		s.Kind = KindProgram
	}
	return s
}

// Validate reports everything that is wrong with s.
func (s Spec) Validate() error {
	s = s.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if s.Serve != ServeSocket && s.Serve != ServeStdio {
		bad("serve is %q, not socket or stdio", s.Serve)
	}
	if s.Callers != CallersOwner && s.Callers != CallersAny {
		bad("callers is %q, not owner or any", s.Callers)
	}
	if !slices.Contains([]string{RestartAlways, RestartOnFailure, RestartNever}, s.Restart) {
		bad("restart is %q, not always, on-failure or never", s.Restart)
	}
	if n := len(s.Args) + len(s.Env) + len(s.Entrypoint); n > MaxArgs {
		bad("%d arguments and variables, more than %d", n, MaxArgs)
	}
	if !slices.Contains([]string{KindProgram, KindOCI, KindWASM, KindGuest}, s.Kind) {
		bad("the payload is of kind %q, not program, oci, wasm or guest", s.Kind)
	}
	if s.Kind != KindOCI && (len(s.Entrypoint) > 0 && s.Kind != KindGuest || s.Dir != "" || s.CPUMillis != 0) {
		bad("entrypoint, dir and cpuMillis belong to a container image")
	}
	if s.Kind == KindGuest && (len(s.Entrypoint) == 0 || !path.IsAbs(s.Entrypoint[0])) {
		bad("the entrypoint of a guest payload has to name a program by its absolute path")
	}
	if s.Dir != "" && !path.IsAbs(s.Dir) {
		bad("the working directory %q is not absolute", s.Dir)
	}
	for _, a := range slices.Concat([]string{s.Name, s.Dir}, s.Args, s.Entrypoint) {
		if strings.ContainsRune(a, 0) {
			bad("an argument holds a NUL")
		}
	}
	for _, e := range s.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || strings.ContainsRune(e, 0) || strings.HasPrefix(name, "SEALIFT_") {
			bad("variable %q cannot be set", name)
		}
	}
	errs = append(errs, s.validatePorts()...)
	return errors.Join(errs...)
}

func (s Spec) validatePorts() (errs []error) {
	if len(s.Ports) > MaxPorts {
		errs = append(errs, fmt.Errorf("%w: %d ports, more than %d", ErrInvalid, len(s.Ports), MaxPorts))
	}
	seen := map[string]bool{}
	for _, p := range s.Ports {
		if p.Name == "" || len(p.Name) > 32 || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			errs = append(errs, fmt.Errorf("%w: port name %q: only a-z, 0-9, - and _", ErrInvalid, p.Name))
		}
		if seen[p.Name] {
			errs = append(errs, fmt.Errorf("%w: two ports are called %q", ErrInvalid, p.Name))
		}
		seen[p.Name] = true
	}
	return errs
}

// Expand replaces each ${NAME} in args whose NAME is a key of vars. Others stay as they are, since a program may have its own
// use for them. The names are PD, LISTEN and ATTEST for a TA; TA, HOST, PORT (the first port) and PORT_NAME (upper case, - as _) for a UA.
// Values are not expanded again.
func Expand(args []string, vars map[string]string) []string {
	pairs := make([]string, 0, 2*len(vars))
	for name, value := range vars {
		pairs = append(pairs, "${"+name+"}", value)
	}
	r := strings.NewReplacer(pairs...)
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = r.Replace(a)
	}
	return out
}

// PortVar returns the name under which Expand and the environment know the port called name: "PORT_" and the name in upper
// case with - as _.
func PortVar(name string) string {
	return "PORT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
