package ttlv

// Tags of KMIP 1.4, section 9.1.3.1, as far as they are spoken here.
const (
	Attribute                = 0x420008
	AttributeIndex           = 0x420009
	AttributeName            = 0x42000A
	AttributeValue           = 0x42000B
	BatchCount               = 0x42000D
	BatchErrorContinuation   = 0x42000E
	BatchItem                = 0x42000F
	CryptographicAlgorithm   = 0x420028
	CryptographicLength      = 0x42002A
	EncryptionKeyInformation = 0x420036
	Key                      = 0x42003F
	KeyBlock                 = 0x420040
	KeyFormatType            = 0x420042
	KeyMaterial              = 0x420043
	KeyValue                 = 0x420045
	KeyWrappingData          = 0x420046
	MaximumItems             = 0x42004F
	MaximumResponseSize      = 0x420050
	NameType                 = 0x420054
	NameValue                = 0x420055
	ObjectType               = 0x420057
	OpaqueDataType           = 0x420059
	OpaqueDataValue          = 0x42005A
	OpaqueObject             = 0x42005B
	Operation                = 0x42005C
	PrivateKey               = 0x420064
	ProtocolVersion          = 0x420069
	ProtocolVersionMajor     = 0x42006A
	ProtocolVersionMinor     = 0x42006B
	QueryFunction            = 0x420074
	RequestHeader            = 0x420077
	RequestMessage           = 0x420078
	RequestPayload           = 0x420079
	ResponseHeader           = 0x42007A
	ResponseMessage          = 0x42007B
	ResponsePayload          = 0x42007C
	ResultMessage            = 0x42007D
	ResultReason             = 0x42007E
	ResultStatus             = 0x42007F
	SecretData               = 0x420085
	SecretDataType           = 0x420086
	SymmetricKey             = 0x42008F
	TimeStamp                = 0x420092
	UniqueBatchItemID        = 0x420093
	UniqueIdentifier         = 0x420094
	VendorIdentification     = 0x42009D
	WrappingMethod           = 0x42009E
)

// Operations of section 9.1.3.2.27.
const (
	OpLocate           = 0x08
	OpGet              = 0x0A
	OpGetAttributes    = 0x0B
	OpQuery            = 0x18
	OpDiscoverVersions = 0x1E
)

// Result reasons of section 9.1.3.2.29.
const (
	ReasonItemNotFound          = 0x01
	ReasonResponseTooLarge      = 0x02
	ReasonAuthentication        = 0x03 // Authentication Not Successful
	ReasonInvalidMessage        = 0x04
	ReasonOperationNotSupported = 0x05
	ReasonInvalidField          = 0x07
	ReasonFeatureNotSupported   = 0x08
	ReasonPermissionDenied      = 0x0C
	ReasonGeneralFailure        = 0x100
)

// Other enumerations: Result Status (9.1.3.2.28), Key Format Type (9.1.3.2.3),
// Secret Data Type (9.1.3.2.9), Name Type (9.1.3.2.11), Wrapping Method (9.1.3.2.6), Query Function (9.1.3.2.24).
const (
	StatusSuccess = 0
	StatusFailed  = 1

	FormatRaw                     = 0x01
	FormatOpaque                  = 0x02
	FormatPKCS8                   = 0x04
	FormatTransparentSymmetricKey = 0x07

	SecretDataPassword = 0x01
	NameUninterpreted  = 0x01
	WrapEncrypt        = 0x01
	QueryServerInfo    = 0x03
)
