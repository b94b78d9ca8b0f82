//! Who may log in to a tenant by tokens of an issuer outside of it.
//!
//! Names and shapes are those of Kubernetes' own `AuthenticationConfiguration` (`apiserver.config.k8s.io/v1`), so that what is
//! written for one is understood by the other. What an API server would refuse as it starts is refused here as far as rules
//! can tell; whether an expression compiles only the API server knows.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Issuers whose tokens the tenant's API server takes, beside certificates and ServiceAccounts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// One entry for each issuer. Changing it starts the API servers anew, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, b.issuer.url == a.issuer.url))")
            .message("each issuer.url stands in one entry only: put all audiences and rules of an issuer into that"),
        validation = Rule::new("self.all(a, !has(a.issuer.discoveryURL) || self.exists_one(b, has(b.issuer.discoveryURL) && b.issuer.discoveryURL == a.issuer.discoveryURL))")
            .message("each issuer has a discoveryURL of its own: correct one of them, or leave it out")
    )]
    pub jwt: Vec<JwtAuthenticator>,
}

/// An issuer, and who its tokens stand for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.claimMappings.username.expression) || !self.claimMappings.username.expression.matches('claims[.][?]?email([^_a-zA-Z0-9]|$)') || self.claimMappings.username.expression.contains('email_verified') || (has(self.claimMappings.extra) && self.claimMappings.extra.exists(e, e.valueExpression.contains('email_verified'))) || (has(self.claimValidationRules) && self.claimValidationRules.exists(r, has(r.expression) && r.expression.contains('email_verified')))")
    .message("a username from claims.email needs claims.email_verified, too: add to claimValidationRules {expression: \"claims.?email_verified.orValue(true) == true\"}"))]
pub struct JwtAuthenticator {
    /// Whose tokens they are.
    pub issuer: Issuer,
    /// What must hold of a token's claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, has(a.claim) ? has(b.claim) && b.claim == a.claim : has(a.expression) && has(b.expression) && b.expression == a.expression))")
        .message("each claim and each expression stands in one of claimValidationRules only: leave the others out"))]
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    /// Who a token stands for.
    pub claim_mappings: ClaimMappings,
    /// What must hold of that user. Names and groups that begin with `system:` or `sublet:` are always refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["expression".into()]))]
    pub user_validation_rules: Vec<UserValidationRule>,
}

/// An issuer of tokens. Its keys are fetched through the proxy's way out, so the class must let API servers go there.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.audiences.size() < 2 || has(self.audienceMatchPolicy)")
        .message("with several audiences write audienceMatchPolicy: MatchAny"),
    validation = Rule::new("!has(self.discoveryURL) || (self.discoveryURL != self.url && self.discoveryURL + '/' != self.url)")
        .message("issuer.discoveryURL is the whole URL of the discovery document, and another than issuer.url: leave it out where that is url with /.well-known/openid-configuration")
)]
pub struct Issuer {
    /// The issuer, as its tokens have it in `iss`. Where no `discoveryURL` is given, what it says of itself is at
    /// `URL/.well-known/openid-configuration`.
    #[x_kube(validation = Rule::new("isURL(self) && self.matches('^https://[^/?#@]+(/[^?#]*)?$')")
        .message("issuer.url is https://HOST or https://HOST/PATH, without user, query and fragment, as tokens have it in iss"))]
    #[schemars(length(max = 512))]
    pub url: String,
    /// Where the discovery document is, when that is elsewhere; `iss` and the document itself still name `url`.
    #[serde(
        default,
        rename = "discoveryURL",
        skip_serializing_if = "Option::is_none"
    )]
    #[x_kube(validation = Rule::new("isURL(self) && self.matches('^https://[^/?#@]+/[^?#]*[^/?#]$')")
        .message("issuer.discoveryURL is https://HOST/PATH of the discovery document, without user, query and fragment, such as https://HOST/.well-known/openid-configuration"))]
    #[schemars(length(max = 512))]
    pub discovery_url: Option<String>,
    /// Authorities in PEM that the issuer's certificate is checked against; those of the API server's image when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
        .message("issuer.certificateAuthority is one or more certificates in PEM, from -----BEGIN CERTIFICATE----- on"))]
    #[schemars(length(max = 16384))]
    pub certificate_authority: Option<String>,
    /// Whom tokens must be for: one of these must be in `aud`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
    /// How several audiences are read: any of them is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience_match_policy: Option<AudienceMatchPolicy>,
}

/// How several audiences are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AudienceMatchPolicy {
    /// Any of them is enough.
    MatchAny,
}

/// Something that must hold of a token's claims.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.claim) != has(self.expression)")
        .message("a rule of claimValidationRules has either claim, with requiredValue, or expression, with message: write one of the two"),
    validation = Rule::new("!has(self.requiredValue) || has(self.claim)")
        .message("requiredValue goes with claim: leave it out, or compare in the expression"),
    validation = Rule::new("!has(self.message) || has(self.expression)")
        .message("message goes with expression: leave it out")
)]
pub struct ClaimValidationRule {
    /// A claim that must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// The text that it must have; none, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub required_value: Option<String>,
    /// CEL over `claims` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: Option<String>,
    /// What is logged when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

/// Who a token stands for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMappings {
    /// The user's name.
    pub username: PrefixedClaimOrExpression,
    /// The user's groups: a claim with a text or a list of them. None when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<PrefixedClaimOrExpression>,
    /// The user's UID. None when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<ClaimOrExpression>,
    /// What else is said of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub extra: Vec<ExtraMapping>,
}

/// A claim with a prefix, or an expression.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.claim) != has(self.expression)")
        .message("a name or groups come either from claim, with prefix, or from expression: write one of the two"),
    validation = Rule::new("!has(self.prefix) || has(self.claim)")
        .message("prefix goes with claim: put it into the expression"),
    validation = Rule::new("!has(self.claim) || has(self.prefix)")
        .message("claim needs prefix, so that nobody bears a name that was meant for another: write one such as \"oidc:\", or \"\" for none"),
    validation = Rule::new("!has(self.prefix) || !self.prefix.matches('^(system|sublet):')")
        .message("prefix must not begin with system: or sublet:, which are Kubernetes' and Sublet's own: write another one such as \"oidc:\"")
)]
pub struct PrefixedClaimOrExpression {
    /// The claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// What is put before its value; may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub prefix: Option<String>,
    /// CEL over `claims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: Option<String>,
}

/// A claim or an expression.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.claim) != has(self.expression)")
    .message("a UID comes either from claim or from expression: write one of the two"))]
pub struct ClaimOrExpression {
    /// The claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// CEL over `claims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: Option<String>,
}

/// Something more that is said of a user.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraMapping {
    /// Under which key.
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[-a-z0-9._~%!$&()*+,;=:/]+$')")
            .message("a key of extra is a DNS name and a path, in lower case, such as example.com/team"),
        validation = Rule::new("!self.matches('^([^/]*[.])?(kubernetes|k8s)[.]io/')")
            .message("keys of extra under kubernetes.io and k8s.io are Kubernetes' own: write one under a domain of yours")
    )]
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// CEL over `claims`.
    #[schemars(length(min = 1, max = 1024))]
    pub value_expression: String,
}

/// Something that must hold of a user.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserValidationRule {
    /// CEL over `user` that must be true.
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
    /// What is logged when it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub message: Option<String>,
}

impl Authentication {
    /// Whether nobody logs in so.
    pub fn is_empty(&self) -> bool {
        self.jwt.is_empty()
    }
}
