package kmip

import (
	"errors"
	"fmt"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

// objectTypes are the managed objects that can hold a key (KMIP 1.4, section 9.1.3.2.12).
func objectTypes() []kmipgo.ObjectType {
	return []kmipgo.ObjectType{kmipgo.ObjectTypeSecretData, kmipgo.ObjectTypeSymmetricKey, kmipgo.ObjectTypeOpaqueObject}
}

func typeName(t kmipgo.ObjectType) string {
	switch t {
	case kmipgo.ObjectTypeSecretData:
		return "SecretData"
	case kmipgo.ObjectTypeSymmetricKey:
		return "SymmetricKey"
	case kmipgo.ObjectTypeOpaqueObject:
		return "OpaqueObject"
	case kmipgo.ObjectTypeCertificate:
		return "Certificate"
	case kmipgo.ObjectTypePublicKey:
		return "PublicKey"
	case kmipgo.ObjectTypePrivateKey:
		return "PrivateKey"
	case kmipgo.ObjectTypeSplitKey:
		return "SplitKey"
	//lint:ignore SA1019 servers of KMIP 1.2 still have templates, and an error has to name what was found
	case kmipgo.ObjectTypeTemplate:
		return "Template"
	case kmipgo.ObjectTypePGPKey:
		return "PGPKey"
	}
	return fmt.Sprintf("object type %08X", uint32(t))
}

func parseObjectType(name string) (kmipgo.ObjectType, error) {
	for _, t := range objectTypes() {
		if typeName(t) == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("object type %q: want SecretData, SymmetricKey or OpaqueObject", name)
}

// stateName gives the names of KMIP 1.4, section 9.1.3.2.18.
func stateName(s kmipgo.State) string {
	switch s {
	case 0:
		return ""
	case kmipgo.StatePreActive:
		return "Pre-Active"
	case kmipgo.StateActive:
		return "Active"
	case kmipgo.StateDeactivated:
		return "Deactivated"
	case kmipgo.StateCompromised:
		return "Compromised"
	case kmipgo.StateDestroyed:
		return "Destroyed"
	case kmipgo.StateDestroyedCompromised:
		return "Destroyed Compromised"
	}
	return fmt.Sprintf("state %08X", uint32(s))
}

// stateHint says what to do about a key that is not usable.
func stateHint(s kmipgo.State) string {
	switch s {
	case kmipgo.StateDeactivated:
		return "register the key in use now under that name on the server"
	case kmipgo.StateCompromised:
		return "give the medium a new key, and register that one under the name on the server"
	case kmipgo.StateDestroyed, kmipgo.StateDestroyedCompromised:
		return "restore it from the server's backup, or open the medium by another key"
	}
	return "activate a key for this use on the server"
}

// usable: keys are often registered and never activated, and Get is allowed
// in Pre-Active (KMIP 1.4, section 3.22), so that counts. An object without a
// state (OpaqueObject has none) is as good as its server says by giving it.
func usable(s kmipgo.State) bool {
	return s == 0 || s == kmipgo.StatePreActive || s == kmipgo.StateActive
}

// maxKey bounds a key, in bytes: as much as a volume takes for a passphrase (hw/luks, and cryptsetup).
const maxKey = 512 << 10

// keyBytes gives the key inside a Get answer. The slice belongs to the object:
// the caller copies it and wipes the object.
func keyBytes(sel Selector, p *payloads.GetResponsePayload) ([]byte, *Error) {
	key, err := objectBytes(sel, p)
	switch {
	case err != nil:
		return nil, err
	case len(key) > maxKey:
		return nil, &Error{Code: CodeFormat, Cause: fmt.Errorf("%s: %d bytes, where a key has %d at most", sel, len(key), maxKey), Hint: "look what was registered under that name, and register the key itself"}
	}
	return key, nil
}

func objectBytes(sel Selector, p *payloads.GetResponsePayload) ([]byte, *Error) {
	var block *kmipgo.KeyBlock
	switch o := p.Object.(type) {
	case *kmipgo.SymmetricKey:
		block = &o.KeyBlock
	case *kmipgo.SecretData:
		block = &o.KeyBlock
	case *kmipgo.OpaqueObject:
		if len(o.OpaqueDataValue) == 0 {
			return nil, &Error{Code: CodeFormat, Cause: fmt.Errorf("%s: the opaque object is empty", sel), Hint: "register the key once more"}
		}
		return o.OpaqueDataValue, nil
	default:
		return nil, wrongType(Selector{Name: sel.String()}, p.ObjectType)
	}
	key, err := blockBytes(block)
	if err != nil {
		err.Cause = fmt.Errorf("%s: %w", sel, err.Cause)
	}
	return key, err
}

// blockBytes takes the shapes that hold plain key bytes (KMIP 1.4, sections 2.1.3 to 2.1.7).
func blockBytes(b *kmipgo.KeyBlock) ([]byte, *Error) {
	if b.KeyWrappingData != nil || (b.KeyValue != nil && b.KeyValue.Wrapped != nil) {
		return nil, &Error{Code: CodeWrapped, Cause: errors.New("the key comes wrapped in another key"), Hint: "have the server give it unwrapped: the TLS connection protects it"}
	}
	if b.KeyValue == nil || b.KeyValue.Plain == nil {
		return nil, &Error{Code: CodeFormat, Cause: errors.New("the object has no key value"), Hint: "only its description is on this server"}
	}
	m := &b.KeyValue.Plain.KeyMaterial
	var key []byte
	switch b.KeyFormatType {
	case kmipgo.KeyFormatTypeRaw, kmipgo.KeyFormatTypeOpaque:
		if m.Bytes != nil {
			key = *m.Bytes
		}
	case kmipgo.KeyFormatTypeTransparentSymmetricKey:
		if m.TransparentSymmetricKey != nil {
			key = m.TransparentSymmetricKey.Key
		}
	default:
		return nil, &Error{Code: CodeFormat, Cause: fmt.Errorf("key format %08X holds no plain key bytes", uint32(b.KeyFormatType)), Hint: "register the key as Raw, Opaque or TransparentSymmetricKey"}
	}
	if len(key) == 0 {
		return nil, &Error{Code: CodeFormat, Cause: errors.New("the key value is empty"), Hint: "register the key once more"}
	}
	return key, nil
}

func wrongType(sel Selector, got kmipgo.ObjectType) *Error {
	want := sel.ObjectType
	if want == "" {
		want = "SecretData, SymmetricKey or OpaqueObject"
	}
	return &Error{Code: CodeWrongType, Cause: fmt.Errorf("%s is a %s, wanted is %s", sel, typeName(got), want), Hint: "register the key itself under that name, or correct the name"}
}

// wipeResponse overwrites every key in an answer that was decoded.
func wipeResponse(resp *kmipgo.ResponseMessage) {
	for i := range resp.BatchItem {
		wipePayload(resp.BatchItem[i].ResponsePayload)
	}
}

func wipePayload(p kmipgo.OperationPayload) {
	get, ok := p.(*payloads.GetResponsePayload)
	if !ok {
		return
	}
	switch o := get.Object.(type) {
	case *kmipgo.SymmetricKey:
		wipeBlock(&o.KeyBlock)
	case *kmipgo.SecretData:
		wipeBlock(&o.KeyBlock)
	case *kmipgo.PrivateKey:
		wipeBlock(&o.KeyBlock)
	case *kmipgo.SplitKey:
		wipeBlock(&o.KeyBlock)
	case *kmipgo.OpaqueObject:
		clear(o.OpaqueDataValue)
	}
}

func wipeBlock(b *kmipgo.KeyBlock) {
	if b.KeyValue == nil {
		return
	}
	if b.KeyValue.Wrapped != nil {
		clear(*b.KeyValue.Wrapped)
	}
	if b.KeyValue.Plain == nil {
		return
	}
	m := &b.KeyValue.Plain.KeyMaterial
	if m.Bytes != nil {
		clear(*m.Bytes)
	}
	if m.TransparentSymmetricKey != nil {
		clear(m.TransparentSymmetricKey.Key)
	}
}
